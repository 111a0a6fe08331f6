//! What sits on the PCI bus, from `/sys/bus/pci/devices`.

use std::{fs, path::Path};

use serde::Serialize;

use super::reading::{names_in, text_of};

/// One device of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Where it sits: domain, bus, device and function.
    pub address: String,
    /// Who made it, in hexadecimal, such as `8086`.
    pub vendor: String,
    /// Which of their products it is.
    pub device: String,
    /// What it does: class, sub-class and interface, such as `020000` for Ethernet.
    pub class: String,
    /// The driver bound to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Reads the inventory, sorted by address; empty where there is no such bus.
pub fn read(root: &Path) -> Vec<PciDevice> {
    let folder = root.join("sys/bus/pci/devices");
    let device = |address: String| {
        let device = folder.join(&address);
        let driver = fs::read_link(device.join("driver")).ok();
        let driver = driver.and_then(|target| Some(target.file_name()?.to_str()?.to_owned()));
        let hex = |file: &str| parse(&text_of(&device.join(file))?);
        Some(PciDevice {
            vendor: hex("vendor")?,
            device: hex("device")?,
            class: hex("class")?,
            driver,
            address,
        })
    };
    names_in(&folder).into_iter().filter_map(device).collect()
}

/// `0x8086` as the kernel writes it, without the prefix.
fn parse(text: &str) -> Option<String> {
    let digits = text.trim().strip_prefix("0x")?;
    let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_with_their_driver_if_they_have_one() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let bus = root.path().join("sys/bus/pci/devices");
        for (path, text) in [
            ("0000:00:02.0/vendor", "0x1AF4\n"),
            ("0000:00:02.0/device", "0x1041\n"),
            ("0000:00:02.0/class", "0x020000\n"),
            ("0000:00:01.0/vendor", "0x8086\n"),
            ("0000:00:01.0/device", "0x1237\n"),
            ("0000:00:01.0/class", "0x060000\n"),
            ("0000:00:03.0/vendor", "what\n"),
        ] {
            let path = bus.join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            fs::write(path, text).expect("writes");
        }
        let driver = "../../../../bus/pci/drivers/virtio-pci";
        std::os::unix::fs::symlink(driver, bus.join("0000:00:02.0/driver")).expect("links");
        let found = read(root.path());
        assert_eq!(found.len(), 2);
        assert_eq!(
            (&*found[0].address, &found[0].driver),
            ("0000:00:01.0", &None)
        );
        assert_eq!((&*found[1].vendor, &*found[1].class), ("1af4", "020000"));
        assert_eq!(found[1].driver.as_deref(), Some("virtio-pci"));
    }
}

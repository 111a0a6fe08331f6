//! Who may send how much more. Kept in memory: each process counts for itself, and begins anew with it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::bucket::{Bucket, Policy};
use crate::config::Rate;

/// So many buckets are kept before the full ones, which tell nothing, are dropped.
const MOST: usize = 100_000;

/// A token or an address, as a number that tells neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// How somebody stands with what they may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// `token` or `anonymous`.
    pub name: &'static str,
    /// How fast it comes back, and how much there is at most.
    pub policy: Policy,
    /// Requests that are left.
    pub left: u64,
    /// Seconds until all of them are.
    pub full_in_s: u64,
    /// Milliseconds until the next one is, where none was.
    pub refused_for_ms: Option<u64>,
}

/// Buckets of those who are known, and of addresses that send nothing anybody knows.
pub struct Callers {
    begun: Instant,
    hasher: RandomState,
    known: Side,
    strangers: Side,
    /// Whether the address is the one a proxy names.
    pub forwarded_for: bool,
}

struct Side {
    name: &'static str,
    /// Absent where there is no limit.
    policy: Option<Policy>,
    buckets: Mutex<HashMap<Key, Bucket>>,
}

impl Callers {
    /// Nobody yet.
    #[must_use]
    pub fn new(settings: &Rate) -> Self {
        let side = |name, per_s, burst| Side {
            name,
            policy: (per_s > 0).then_some(Policy { per_s, burst }),
            buckets: Mutex::default(),
        };
        Self {
            begun: Instant::now(),
            hasher: RandomState::new(),
            known: side("token", settings.per_s, settings.burst),
            strangers: side(
                "anonymous",
                settings.anonymous_per_s,
                settings.anonymous_burst,
            ),
            forwarded_for: settings.forwarded_for,
        }
    }

    /// Milliseconds since the process began to count.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The key of a token.
    pub fn of_token(&self, token: &str) -> Key {
        Key(self.hasher.hash_one(("token", token)))
    }

    /// The key of an address; of IPv6 the network, as every host has a choice of many addresses in it.
    pub fn of_address(&self, address: IpAddr) -> Key {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address) >> 64 << 64,
        };
        Key(self.hasher.hash_one(("address", network)))
    }

    /// Lets a request in or not. `Ok(None)` means that nobody knows yet whose it is: what becomes of it tells, by
    /// [`Self::welcome`] or [`Self::charge`].
    pub fn admit(
        &self,
        caller: Key,
        address: Key,
        now_ms: u64,
    ) -> Result<Option<Standing>, Standing> {
        if let Some(standing) = self.known.take_known(caller, now_ms) {
            return match standing.refused_for_ms {
                None => Ok(Some(standing)),
                Some(_) => Err(standing),
            };
        }
        match self.strangers.refusal(address, now_ms) {
            Some(refused) => Err(refused),
            None => Ok(None),
        }
    }

    /// Counts a request whose sender turned out to be known. Nothing where there is no limit.
    pub fn welcome(&self, caller: Key, now_ms: u64) -> Option<Standing> {
        self.known.take(caller, now_ms)
    }

    /// Counts a request whose sender nobody knows.
    pub fn charge(&self, address: Key, now_ms: u64) -> Option<Standing> {
        self.strangers.take(address, now_ms)
    }

    /// Somebody is known no longer: the token was revoked.
    pub fn forget(&self, caller: Key) {
        self.known.lock().remove(&caller);
    }
}

impl Side {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Bucket>> {
        // Numbers are never half written.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from the bucket of somebody who has one.
    fn take_known(&self, key: Key, now_ms: u64) -> Option<Standing> {
        let policy = self.policy?;
        let mut buckets = self.lock();
        let bucket = buckets.get_mut(&key)?;
        let taken = bucket.take(policy, now_ms);
        Some(self.standing(policy, *bucket, taken, now_ms))
    }

    /// Takes from a bucket, which may be new.
    fn take(&self, key: Key, now_ms: u64) -> Option<Standing> {
        let policy = self.policy?;
        let mut buckets = self.lock();
        if buckets.len() >= MOST && !buckets.contains_key(&key) {
            make_room(&mut buckets, policy, now_ms);
        }
        let bucket = (buckets.entry(key)).or_insert_with(|| Bucket::full(policy, now_ms));
        // It is over already; what it took is not given back.
        let _ = bucket.take(policy, now_ms);
        Some(self.standing(policy, *bucket, Ok(()), now_ms))
    }

    /// Why the next would be refused, if it would.
    fn refusal(&self, key: Key, now_ms: u64) -> Option<Standing> {
        let policy = self.policy?;
        let bucket = *self.lock().get(&key)?;
        let taken = bucket.clone().take(policy, now_ms);
        taken
            .is_err()
            .then(|| self.standing(policy, bucket, taken, now_ms))
    }

    fn standing(
        &self,
        policy: Policy,
        bucket: Bucket,
        taken: Result<(), u64>,
        now_ms: u64,
    ) -> Standing {
        Standing {
            name: self.name,
            policy,
            left: bucket.left(policy, now_ms),
            full_in_s: bucket.full_in_s(policy, now_ms),
            refused_for_ms: taken.err(),
        }
    }
}

/// Drops the full buckets, and all where that is not enough: memory is worth more than what a few have left.
fn make_room(buckets: &mut HashMap<Key, Bucket>, policy: Policy, now_ms: u64) {
    buckets.retain(|_, bucket| bucket.full_in_s(policy, now_ms) > 0);
    if buckets.len() >= MOST / 2 {
        buckets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(per_s: u32, anonymous_per_s: u32) -> Callers {
        Callers::new(&Rate {
            per_s,
            burst: 3,
            anonymous_per_s,
            anonymous_burst: 2,
            forwarded_for: false,
        })
    }

    #[test]
    fn who_is_known_has_a_bucket_and_the_rest_share_their_address() {
        let callers = callers(1, 1);
        let address = callers.of_address([10, 0, 0, 1].into());
        let [ada, bob] = ["ada", "bob"].map(|token| callers.of_token(token));
        assert_eq!(callers.admit(ada, address, 0), Ok(None), "not seen yet");
        assert_eq!(callers.welcome(ada, 0).map(|s| s.left), Some(2));
        for left in [1, 0] {
            let standing = callers.admit(ada, address, 0).expect("let in");
            assert_eq!(standing.map(|s| s.left), Some(left));
        }
        let refused = callers.admit(ada, address, 0).expect_err("refused");
        assert_eq!(
            (refused.refused_for_ms, refused.name),
            (Some(1_000), "token")
        );
        // Made-up tokens are worth nothing, however many there are.
        for n in 0..2 {
            let made_up = callers.of_token(&n.to_string());
            assert_eq!(callers.admit(made_up, address, 0), Ok(None));
            callers.charge(address, 0);
        }
        let refused = callers.admit(bob, address, 0).expect_err("refused");
        assert_eq!(refused.name, "anonymous");
        let elsewhere = callers.of_address([10, 0, 0, 2].into());
        assert_eq!(callers.admit(bob, elsewhere, 0), Ok(None));
        assert!(callers.admit(ada, address, 1_000).is_ok(), "it is known");
        assert!(callers.admit(bob, address, 1_000).is_ok());
        callers.forget(ada);
        assert_eq!(callers.admit(ada, elsewhere, 1_000), Ok(None));
    }

    #[test]
    fn nothing_is_counted_where_there_is_no_limit() {
        let callers = callers(0, 0);
        let key = callers.of_token("ada");
        for _ in 0..100 {
            assert_eq!(callers.admit(key, key, 0), Ok(None));
            assert_eq!(callers.welcome(key, 0), None);
            assert_eq!(callers.charge(key, 0), None);
        }
    }

    #[test]
    fn an_address_is_its_network_and_memory_has_an_end() {
        let callers = callers(1, 1);
        let of = |text: &str| callers.of_address(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        for n in 0..MOST as u64 + 10 {
            callers.charge(Key(n), n / 100);
        }
        assert!(callers.strangers.lock().len() <= MOST);
    }
}

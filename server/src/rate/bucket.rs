//! A bucket of tokens: each request takes one, and they come back at a steady rate. Pure: the moment is an argument.

/// How fast tokens come back, and how many there are at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Tokens that come back in a second; at least 1.
    pub per_s: u32,
    /// Tokens of a full bucket; at least 1.
    pub burst: u32,
}

/// What is left, in thousandths of a token: that much comes back in a millisecond for each token in a second, so all
/// of it is counted in whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    thousandths: u64,
    at_ms: u64,
}

const ONE: u64 = 1_000;

impl Policy {
    fn full(self) -> u64 {
        u64::from(self.burst.max(1)) * ONE
    }

    fn per_ms(self) -> u64 {
        u64::from(self.per_s.max(1))
    }

    /// How long an empty bucket takes to fill, seconds, rounded up.
    #[must_use]
    pub fn fills_in_s(self) -> u64 {
        self.full().div_ceil(self.per_ms()).div_ceil(1_000)
    }
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn full(policy: Policy, now_ms: u64) -> Self {
        Self {
            thousandths: policy.full(),
            at_ms: now_ms,
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// How long to wait for one, milliseconds, when there is none; nothing is taken then.
    pub fn take(&mut self, policy: Policy, now_ms: u64) -> Result<(), u64> {
        self.refill(policy, now_ms);
        match self.thousandths.checked_sub(ONE) {
            Some(left) => {
                self.thousandths = left;
                Ok(())
            }
            None => Err((ONE - self.thousandths).div_ceil(policy.per_ms())),
        }
    }

    /// Whole tokens that are left.
    #[must_use]
    pub fn left(mut self, policy: Policy, now_ms: u64) -> u64 {
        self.refill(policy, now_ms);
        self.thousandths / ONE
    }

    /// How long until it is full, seconds, rounded up; 0 when it is.
    #[must_use]
    pub fn full_in_s(mut self, policy: Policy, now_ms: u64) -> u64 {
        self.refill(policy, now_ms);
        (policy.full() - self.thousandths)
            .div_ceil(policy.per_ms())
            .div_ceil(1_000)
    }

    fn refill(&mut self, policy: Policy, now_ms: u64) {
        let back = now_ms
            .saturating_sub(self.at_ms)
            .saturating_mul(policy.per_ms());
        self.thousandths = self.thousandths.saturating_add(back).min(policy.full());
        self.at_ms = self.at_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policies() -> impl Strategy<Value = Policy> {
        (1..2_000_u32, 1..50_u32).prop_map(|(per_s, burst)| Policy { per_s, burst })
    }

    proptest! {
        /// In whatever span of time, no more are let in than a full bucket and what comes back meanwhile.
        #[test]
        fn no_span_lets_in_more_than_it_may(
            policy in policies(),
            pauses in proptest::collection::vec(0..40_u64, 1..300),
        ) {
            let mut bucket = Bucket::full(policy, 0);
            let (mut now, mut let_in) = (0, Vec::new());
            for pause in pauses {
                now += pause;
                if bucket.take(policy, now).is_ok() {
                    let_in.push(now);
                }
            }
            for (n, from) in let_in.iter().enumerate() {
                for (m, to) in let_in.iter().enumerate().skip(n) {
                    let most = u64::from(policy.burst) * ONE + (to - from) * u64::from(policy.per_s);
                    prop_assert!(((m - n + 1) as u64) * ONE <= most, "{from}..={to}");
                }
            }
        }

        /// Who waits as long as told is let in, and not a millisecond sooner.
        #[test]
        fn the_wait_is_exact(policy in policies(), pauses in proptest::collection::vec(0..5_u64, 1..200)) {
            let mut bucket = Bucket::full(policy, 0);
            let mut now = 0;
            for pause in pauses {
                now += pause;
                let asked = bucket;
                if let Err(wait) = bucket.take(policy, now) {
                    prop_assert!(wait > 0);
                    prop_assert_eq!(bucket.left(policy, now), 0);
                    prop_assert!(asked.clone().take(policy, now + wait - 1).is_err());
                    prop_assert!(asked.clone().take(policy, now + wait).is_ok());
                }
            }
        }

        /// Whatever was taken, after the time told it is full again.
        #[test]
        fn it_fills_in_the_time_told(policy in policies(), taken in 0..100_u32, now in 0..1_000_u64) {
            let mut bucket = Bucket::full(policy, now);
            for _ in 0..taken {
                let _ = bucket.take(policy, now);
            }
            let wait = bucket.full_in_s(policy, now);
            prop_assert!(wait <= policy.fills_in_s());
            prop_assert_eq!(bucket.left(policy, now + wait * 1_000), u64::from(policy.burst));
        }
    }

    #[test]
    fn a_clock_that_stands_gives_nothing_back() {
        let policy = Policy {
            per_s: 1_000,
            burst: 2,
        };
        let mut bucket = Bucket::full(policy, 10);
        assert_eq!(bucket.take(policy, 10), Ok(()));
        assert_eq!(bucket.take(policy, 5), Ok(()));
        assert_eq!(bucket.take(policy, 5), Err(1));
    }
}

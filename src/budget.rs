//! Accounting of the bytes that are held for peers.

/// The sum of everything that is held for peers, and its ceiling.
#[derive(Debug)]
pub struct Budget {
    used_bytes: usize,
    max_bytes: usize,
}

/// One holder's part of the budget. It must be given back with [`Budget::settle`] to zero before it is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    bytes: usize,
}

impl Charge {
    /// Bytes charged at present.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Budget {
    /// A budget with nothing charged to it.
    pub fn new(max_bytes: usize) -> Self {
        Self { used_bytes: 0, max_bytes }
    }

    /// Says that the holder of `charge` now holds `bytes`. False when that brings the sum over the ceiling; the charge
    /// is made all the same, because the bytes are held, and the caller gives them back or sheds.
    pub fn settle(&mut self, charge: &mut Charge, bytes: usize) -> bool {
        let grows = bytes > charge.bytes;
        self.used_bytes = self.used_bytes - charge.bytes + bytes;
        charge.bytes = bytes;
        !grows || self.used_bytes <= self.max_bytes
    }

    /// Bytes charged by all holders.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// The ceiling.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Moves the ceiling, for a reload.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_its_parts_and_only_growth_is_refused() {
        let mut budget = Budget::new(100);
        let (mut a, mut b) = (Charge::default(), Charge::default());
        assert!(budget.settle(&mut a, 60));
        assert!(!budget.settle(&mut b, 60));
        assert_eq!(budget.used_bytes(), a.bytes() + b.bytes());
        assert!(budget.settle(&mut b, 50), "shrinking is never refused");
        assert!(budget.settle(&mut a, 0) && budget.settle(&mut b, 0));
        assert_eq!(budget.used_bytes(), 0);
    }
}

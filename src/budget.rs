//! Accounting of the bytes that are held for peers, and how heavy the process is by that.
//!
//! What is held is *charged* to one of several [kinds](Kind), as much as the allocator takes for it. What is charged is
//! known at once and does not know everything; what the system says that the process weighs knows everything and is
//! looked at now and then. The [weight](Budget::weight_bytes) is the larger of what both say, and the
//! [state](State) of the server follows from it.

/// What an allocation of so many bytes takes: those of musl's allocator, whose sizes are the coarser ones.
///
/// Below 128 KiB it has sizes that are multiples of 16 of which it keeps 4 bytes to itself, four of them for each
/// doubling; above, it takes pages of the system.
pub const fn allocated(bytes: usize) -> usize {
    const HEAD: usize = 4;
    const LARGE: usize = 131_052;
    match bytes {
        0 => 0,
        _ if bytes >= LARGE => (bytes + 16).next_multiple_of(4096),
        _ => {
            let units = (bytes + HEAD).div_ceil(16);
            // Up to ten units each has a size of its own.
            let step = if units <= 10 { 1 } else { (units.next_power_of_two() / 2 / 4).next_power_of_two() };
            units.next_multiple_of(step) * 16
        }
    }
}

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Connections of clients: what has been read of a stanza, what waits to be written.
    Connections,
    /// TLS of all connections, with sockets and what belongs to them.
    Sockets,
    /// Sessions: presence, to whom it was sent, what is not acknowledged.
    Sessions,
    /// What waits for sessions without connection.
    Parked,
    /// Connections with other servers, and what waits for those.
    Servers,
    /// Addresses of those who have come, and how they have behaved.
    Addresses,
    /// What modules remember, such as who is in which room.
    Modules,
    /// Room in tables that nothing has at present.
    Tables,
    /// What would be found again: absent rows, capabilities, templates.
    Caches,
    /// Writes on their way to the disk.
    Storage,
}

impl Kind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Connections,
        Self::Sockets,
        Self::Sessions,
        Self::Parked,
        Self::Servers,
        Self::Addresses,
        Self::Modules,
        Self::Tables,
        Self::Caches,
        Self::Storage,
    ];

    /// For operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Sockets => "sockets and TLS",
            Self::Sessions => "sessions",
            Self::Parked => "sessions that wait to be resumed",
            Self::Servers => "other servers",
            Self::Addresses => "addresses that are remembered",
            Self::Modules => "modules",
            Self::Tables => "tables",
            Self::Caches => "caches",
            Self::Storage => "writes that wait for the disk",
        }
    }
}

/// How close to its ceiling the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There is room.
    #[default]
    Normal,
    /// The share of the ceiling is in use that the operator wants to hear of.
    Warning,
    /// It gives up what it can, and lets no strangers in.
    Shedding,
}

impl State {
    /// For operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Shedding => "shedding",
        }
    }
}

/// The sum of everything that is held for peers, its ceiling, and how close they are.
#[derive(Debug)]
pub struct Budget {
    used_bytes: [usize; Kind::ALL.len()],
    max_bytes: usize,
    warning_percent: u32,
    /// What the process weighs beside what is charged.
    base_bytes: usize,
    measured: Option<Measured>,
    state: State,
}

/// What the system has said last.
#[derive(Clone, Copy, Debug)]
struct Measured {
    rss_bytes: usize,
    /// What was charged then.
    used_bytes: usize,
}

/// One holder's part of the budget. It must be given back with [`Budget::settle`] to zero before it is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    bytes: u32,
}

impl Charge {
    /// Bytes charged at present.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

impl Budget {
    /// A budget with nothing charged to it. `warning_percent` of the ceiling are worth a warning.
    pub fn new(max_bytes: usize, warning_percent: u32) -> Self {
        let used_bytes = [0; Kind::ALL.len()];
        Self { used_bytes, max_bytes, warning_percent, base_bytes: 0, measured: None, state: State::Normal }
    }

    /// Says that the holder of `charge` now holds `bytes` of that kind, which is always the same for one holder. It is
    /// charged in any case, because it is held.
    pub fn settle(&mut self, kind: Kind, charge: &mut Charge, bytes: usize) {
        let before = charge.bytes();
        charge.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let used = &mut self.used_bytes[kind as usize];
        *used = *used - before + charge.bytes();
    }

    /// Bytes charged by all holders.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.iter().sum()
    }

    /// Bytes charged by the holders of one kind.
    pub fn used_by(&self, kind: Kind) -> usize {
        self.used_bytes[kind as usize]
    }

    /// The ceiling.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Moves the ceiling and the warning, for a reload.
    pub fn set_max_bytes(&mut self, max_bytes: usize, warning_percent: u32) {
        self.max_bytes = max_bytes;
        self.warning_percent = warning_percent;
    }

    /// The system has said what the process weighs. The first time that is what it weighs by itself.
    pub fn measured(&mut self, rss_bytes: usize) {
        let used_bytes = self.used_bytes();
        if self.measured.is_none() {
            self.base_bytes = rss_bytes.saturating_sub(used_bytes);
        }
        self.measured = Some(Measured { rss_bytes, used_bytes });
    }

    /// What the process weighs beside what is charged, in bytes; 0 until it was measured.
    pub fn base_bytes(&self) -> usize {
        self.base_bytes
    }

    /// What the system has said last.
    pub fn rss_bytes(&self) -> Option<usize> {
        self.measured.map(|measured| measured.rss_bytes)
    }

    /// What the process weighs: by the account, or by what was measured and has been charged since, if that is more.
    pub fn weight_bytes(&self) -> usize {
        let used = self.used_bytes();
        let measured = self.measured.map_or(0, |m| (m.rss_bytes + used).saturating_sub(m.used_bytes));
        measured.max(self.base_bytes + used)
    }

    /// So much has been charged since the last measurement that there should be another.
    pub fn is_stale(&self) -> bool {
        let then = self.measured.map_or(0, |measured| measured.used_bytes);
        self.used_bytes().saturating_sub(then) > self.max_bytes / 32
    }

    /// Bytes until the server starts to shed.
    pub fn spare_bytes(&self) -> usize {
        self.sheds_at().saturating_sub(self.weight_bytes())
    }

    /// Bytes to be given up until there is some room again; 0 unless the server sheds.
    pub fn excess_bytes(&self) -> usize {
        match self.state {
            State::Normal | State::Warning => 0,
            State::Shedding => self.weight_bytes().saturating_sub(self.calm_at()),
        }
    }

    /// How close to the ceiling the server was at the last [`Budget::judge`].
    pub fn state(&self) -> State {
        self.state
    }

    /// Finds out how close to the ceiling the server is. The state, when it is another one by that. One that was
    /// entered is not left before the weight is a sixteenth of the ceiling below where it began.
    pub fn judge(&mut self) -> Option<State> {
        let weight = self.weight_bytes();
        let hysteresis = self.max_bytes / 16;
        let warns_at = (self.max_bytes as u64 * u64::from(self.warning_percent) / 100) as usize;
        let (below, was) = (|at: usize| weight < at.saturating_sub(hysteresis), self.state);
        self.state = if weight >= self.sheds_at() || (was == State::Shedding && weight >= self.calm_at()) {
            State::Shedding
        } else if weight >= warns_at || (was >= State::Warning && !below(warns_at)) {
            State::Warning
        } else {
            State::Normal
        };
        (self.state != was).then_some(self.state)
    }

    /// What is left above that is for what a tick allocates in passing.
    fn sheds_at(&self) -> usize {
        self.max_bytes - self.max_bytes / 16
    }

    fn calm_at(&self) -> usize {
        self.max_bytes - self.max_bytes / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_its_parts() {
        let mut budget = Budget::new(100, 75);
        let (mut a, mut b) = (Charge::default(), Charge::default());
        budget.settle(Kind::Connections, &mut a, 60);
        budget.settle(Kind::Modules, &mut b, 60);
        assert_eq!(budget.used_bytes(), a.bytes() + b.bytes());
        budget.settle(Kind::Modules, &mut b, 50);
        assert_eq!((budget.used_by(Kind::Connections), budget.used_by(Kind::Modules)), (60, 50));
        budget.settle(Kind::Connections, &mut a, 0);
        budget.settle(Kind::Modules, &mut b, 0);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn states_are_entered_at_once_and_left_late() {
        let mut budget = Budget::new(1600, 75);
        let mut charge = Charge::default();
        let mut at = |budget: &mut Budget, bytes| {
            budget.settle(Kind::Connections, &mut charge, bytes);
            budget.judge()
        };
        assert_eq!(at(&mut budget, 1199), None);
        assert_eq!(at(&mut budget, 1200), Some(State::Warning));
        assert_eq!(at(&mut budget, 1100), None);
        assert_eq!(at(&mut budget, 1099), Some(State::Normal));
        assert_eq!(at(&mut budget, 1500), Some(State::Shedding));
        assert_eq!(budget.excess_bytes(), 100);
        assert_eq!(at(&mut budget, 1400), None);
        assert_eq!(at(&mut budget, 1399), Some(State::Warning));
        assert_eq!((budget.excess_bytes(), budget.spare_bytes()), (0, 101));
    }

    #[test]
    fn the_larger_of_account_and_measurement_counts() {
        let mut budget = Budget::new(10_000, 75);
        let mut charge = Charge::default();
        budget.measured(4000);
        budget.settle(Kind::Connections, &mut charge, 1000);
        assert_eq!((budget.base_bytes(), budget.weight_bytes()), (4000, 5000));
        // More than the account knows of.
        budget.measured(7000);
        assert_eq!(budget.weight_bytes(), 7000);
        // What is given back since counts before it is measured again.
        budget.settle(Kind::Connections, &mut charge, 500);
        assert_eq!(budget.weight_bytes(), 6500);
        budget.measured(4100);
        assert_eq!(budget.weight_bytes(), 4500);
        assert_eq!(budget.base_bytes(), 4000);
    }

    #[test]
    fn an_allocation_takes_no_less_than_it_asks_for() {
        let expected = [(0, 0), (1, 16), (12, 16), (13, 32), (156, 160), (157, 192), (1000, 1024), (1100, 1280)];
        for (bytes, takes) in expected {
            assert_eq!(allocated(bytes), takes, "{bytes}");
        }
        let mut before = 0;
        for bytes in 1..200_000 {
            let takes = allocated(bytes);
            assert!(
                takes >= bytes + 4 && takes >= before && takes <= bytes + bytes / 4 + 32 + 4096 * (bytes / 131_052)
            );
            before = takes;
        }
    }
}

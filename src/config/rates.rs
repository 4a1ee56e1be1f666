//! `[limits.rates]`, `[limits.c2s]`, `[limits.s2s]`, `[limits.components]`: how fast peers may send; and
//! `[limits.addresses]`: for whom there are no limits of connections.

use crate::core::settings::LOOPBACK;
use crate::core::{gate, rates};
use crate::jid::Jid;
use crate::setting::{Burst, Rate, Setting, Value, quote, section, wanted, words};
use std::net::IpAddr;

section! {
    /// How fast peers may send. What comes faster is left in the sockets until there is room again: nobody is
    /// disconnected for speed. Bytes are counted when they are decrypted; TLS handshakes are not.
    pub struct Rates in "limits.rates" {
        /// The rates where the sections below say nothing. "personal": 1 kB/s and bursts of 5 kB for a client, 5 and
        /// 10 kB for a server; "community": 10 and 25 kB, 30 and 100 kB; "enterprise": 100 and 1000 kB, 1 and 10 MB.
        pub preset: Preset = Preset::Community,
        /// Let rates depend on how somebody behaves: a minute in which an account, or the domain of a server, sends
        /// without having to wait makes its score one better, a minute in which it has to wait ten worse; scores lie
        /// between -100 and 100, and are forgotten when the server stops.
        pub adaptive: bool = false,
        /// What the best score makes of a rate: from 1.0 to 2.0 times.
        pub good_user_bonus: Factor = Factor(200) => |factor| between(*factor, 100, 200),
        /// What the worst score makes of a rate: from 0.5 to 1.0 times.
        pub bad_user_penalty: Factor = Factor(50) => |factor| between(*factor, 50, 100),
        /// For whom there are no rates: addresses such as "bot@example.org", and domains, of users here or of servers.
        pub exempt: Vec<String> = Vec::new(),
    }
}

section! {
    /// Limits by network address.
    pub struct Addresses in "limits.addresses" {
        /// For whom there are no limits of connections and no waits for failed logins: addresses, and networks such as
        /// "192.0.2.0/24". A proxy before this server belongs here: all its clients come from its address.
        pub exempt: Vec<Network> = LOOPBACK.map(Network).to_vec(),
    }
}

/// An address, or a network in CIDR notation (RFC 4632).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub gate::Network);

impl Setting for Network {
    fn kind() -> String {
        "an address or a network such as \"192.0.2.7\", \"192.0.2.0/24\", \"2001:db8::/32\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        value.text().and_then(|text| network(text.trim())).map(Self).ok_or_else(|| wanted::<Self>(value))
    }

    fn show(&self) -> String {
        let Self(gate::Network { address, bits }) = self;
        quote(&if *bits == width(*address) { address.to_string() } else { format!("{address}/{bits}") })
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn network(text: &str) -> Option<gate::Network> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address = address.parse().ok()?;
    let bits = bits.map_or(Some(width(address)), |bits| bits.parse().ok())?;
    (bits <= width(address)).then_some(gate::Network { address, bits })
}

section! {
    /// What one connection of a client may send.
    pub struct C2sRate in "limits.c2s" {
        /// In the long run: "10 kB/s", or "unlimited". "" is as limits.rates.preset says.
        pub rate: Option<Rate> = None => |rate| fast_enough(rate.as_ref()),
        /// At once, after a silence: "25 kB", or as much as the rate brings in "2 s". "" is as the preset says, or 2 s
        /// of the rate above where there is one.
        pub burst: Option<Burst> = None => |burst| large_enough(burst.as_ref()),
    }
}

section! {
    /// What one connection with another server may send.
    pub struct S2sRate in "limits.s2s" {
        /// As limits.c2s.rate.
        pub rate: Option<Rate> = None => |rate| fast_enough(rate.as_ref()),
        /// As limits.c2s.burst.
        pub burst: Option<Burst> = None => |burst| large_enough(burst.as_ref()),
    }
}

section! {
    /// What an external component may send.
    pub struct ComponentRate in "limits.components" {
        /// In the long run.
        pub rate: Rate = Rate(0) => |rate| fast_enough(Some(rate)),
        /// As limits.c2s.burst.
        pub burst: Option<Burst> = None => |burst| large_enough(burst.as_ref()),
    }
}

/// A number with a fraction, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(pub u32);

impl Setting for Factor {
    fn kind() -> String {
        "a number such as 1.5".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let number = match value {
            Value::Float(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Str(_) | Value::Bool(_) | Value::List(_) => None,
        };
        let number = number.filter(|number| (0.0..1000.0).contains(number)).ok_or_else(|| wanted::<Self>(value))?;
        Ok(Self((number * 100.0).round() as u32))
    }

    fn show(&self) -> String {
        let text = format!("{}.{:02}", self.0 / 100, self.0 % 100);
        text.strip_suffix('0').unwrap_or(&text).to_string()
    }
}

fn between(factor: Factor, min: u32, max: u32) -> Result<(), String> {
    if (min..=max).contains(&factor.0) {
        return Ok(());
    }
    Err(format!("{} does not fit; write {} to {}", factor.show(), Factor(min).show(), Factor(max).show()))
}

words! {
    /// Rates for a kind of server.
    pub enum Preset {
        /// A family.
        Personal = "personal",
        /// A club.
        Community = "community",
        /// A company.
        Enterprise = "enterprise",
    }
}

/// Less, and a login takes longer than it may.
fn fast_enough(rate: Option<&Rate>) -> Result<(), String> {
    match rate {
        Some(rate @ Rate(1..100)) => Err(format!("{} is too slow; write \"100 B/s\" or more", rate.show())),
        _ => Ok(()),
    }
}

fn large_enough(burst: Option<&Burst>) -> Result<(), String> {
    match burst {
        Some(burst @ Burst::Bytes(0..1000)) => Err(format!("{} is too small; write \"1 kB\" or more", burst.show())),
        Some(Burst::Seconds(0)) => Err("\"0 s\" is too short; write \"1 s\" or more".to_string()),
        _ => Ok(()),
    }
}

/// Seconds of a rate of its own where no burst is written, as Prosody.
const BURST_S: u32 = 2;

fn of(rate: Option<Rate>, burst: Option<Burst>, (per_s, bytes): (u32, u32)) -> rates::Rate {
    let burst = match (rate, burst) {
        (_, Some(burst)) => burst,
        (Some(_), None) => Burst::Seconds(BURST_S),
        (None, None) => Burst::Bytes(bytes),
    };
    let per_s = rate.map_or(per_s, |rate| rate.0);
    let burst = match burst {
        Burst::Bytes(bytes) => bytes,
        Burst::Seconds(time) => per_s.saturating_mul(time),
    };
    rates::Rate { per_s, burst }
}

impl Rates {
    /// All rates together. The addresses are prepared.
    pub fn all(&self, c2s: &C2sRate, s2s: &S2sRate, component: &ComponentRate) -> rates::Rates {
        let (of_clients, of_servers) = match self.preset {
            Preset::Personal => ((1000, 5000), (5000, 10_000)),
            Preset::Community => ((10_000, 25_000), (30_000, 100_000)),
            Preset::Enterprise => ((100_000, 1_000_000), (1_000_000, 10_000_000)),
        };
        rates::Rates {
            c2s: of(c2s.rate, c2s.burst, of_clients),
            s2s: of(s2s.rate, s2s.burst, of_servers),
            component: of(Some(component.rate), component.burst, (0, 0)),
            adaptive: self.adaptive.then_some(rates::Adaptive {
                bonus_percent: self.good_user_bonus.0,
                penalty_percent: self.bad_user_penalty.0,
            }),
            // The check has refused what is no address.
            exempt: self.exempt.iter().filter_map(|jid| Jid::parse(jid).ok()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Section;

    fn rates(preset: &str, rate: &str, burst: &str) -> rates::Rate {
        let (mut rates, mut c2s) = (Rates::default(), C2sRate::default());
        rates.set("preset", &Value::Str(preset.to_string())).unwrap();
        c2s.set("rate", &Value::Str(rate.to_string())).unwrap();
        c2s.set("burst", &Value::Str(burst.to_string())).unwrap();
        rates.all(&c2s, &S2sRate::default(), &ComponentRate::default()).c2s
    }

    #[test]
    fn nothing_written_is_the_default_of_the_engine() {
        let all = Rates::default().all(&C2sRate::default(), &S2sRate::default(), &ComponentRate::default());
        assert_eq!(all, rates::Rates::default());
    }

    #[test]
    fn presets_and_what_is_written_over_them() {
        for (preset, rate, burst, per_s, bytes) in [
            ("personal", "", "", 1000, 5000),
            ("community", "", "", 10_000, 25_000),
            ("enterprise", "", "", 100_000, 1_000_000),
            ("personal", "", "25kb", 1000, 25_000),
            ("personal", "10kb/s", "", 10_000, 20_000),
            ("personal", "10kb/s", "25kb", 10_000, 25_000),
            ("community", "3 kB/s", "2s", 3000, 6000),
            ("community", "", "4 s", 10_000, 40_000),
            ("community", "4 GB/s", "1 h", 4_000_000_000, u32::MAX),
        ] {
            assert_eq!(rates(preset, rate, burst), rates::Rate { per_s, burst: bytes }, "{preset} {rate} {burst}");
        }
        for lifted in ["0", "unlimited"] {
            assert!(rates("personal", lifted, "").is_unlimited());
            assert!(rates("personal", lifted, "25 kB").is_unlimited());
        }
    }

    #[test]
    fn factors_are_read_shown_and_bounded() {
        let mut rates = Rates::default();
        for (value, shown) in [
            (Value::Float(1.5), Some("1.5")),
            (Value::Int(2), Some("2.0")),
            (Value::Text("1.25".to_string()), Some("1.25")),
            (Value::Float(2.1), None),
            (Value::Float(0.9), None),
            (Value::Float(f64::NAN), None),
            (Value::Str("1.5".to_string()), None),
        ] {
            let set = rates.set("good_user_bonus", &value);
            assert_eq!(set.is_ok().then(|| rates.good_user_bonus.show()).as_deref(), shown, "{value:?}");
        }
        assert!(rates.set("bad_user_penalty", &Value::Float(0.49)).is_err_and(|e| e.contains("write 0.5 to 1.0")));
        assert_eq!(rates.set("bad_user_penalty", &Value::Float(0.5)), Ok(()));
    }

    #[test]
    fn networks_are_read_and_shown() {
        for text in ["192.0.2.7", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::1"] {
            let read = Network::parse(&Value::Str(text.to_string()));
            assert_eq!(read.map(|network| network.show()), Ok(quote(text)));
        }
        for wrong in ["", "here", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1", "/8"] {
            let read = Network::parse(&Value::Str(wrong.to_string()));
            assert!(read.is_err_and(|e| e.contains("is not an address or a network")), "{wrong}");
        }
    }

    #[test]
    fn rates_that_nobody_could_log_in_with_are_refused() {
        let mut c2s = C2sRate::default();
        let mut set = |key: &str, text: &str| c2s.set(key, &Value::Str(text.to_string()));
        assert_eq!(set("rate", "99 B/s"), Err("\"99 B/s\" is too slow; write \"100 B/s\" or more".to_string()));
        assert_eq!(set("rate", "100 B/s"), Ok(()));
        assert_eq!(set("burst", "999 B"), Err("\"999 B\" is too small; write \"1 kB\" or more".to_string()));
        assert_eq!(set("burst", "1 kB"), Ok(()));
        assert!(set("burst", "0 s").is_err() && set("burst", "25").is_err() && set("rate", "fast").is_err());
    }
}

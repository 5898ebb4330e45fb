//! Users and trunks as they are looked up: by name, number, login and address. Each table is made
//! once, with its indices, and shared from then on: a copy of the configuration costs no user.

use super::{Trunk, User};
use crate::ids::looked_at;
use crate::sip::transaction::TrunkNumber;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

/// Users by name, and by number.
#[derive(Clone, Debug, Default)]
pub struct Users(Arc<UserTable>);

#[derive(Debug, Default)]
struct UserTable {
    by_name: BTreeMap<String, Arc<User>>,
    /// By `did` and `numbers`; the first by name if two have one.
    by_number: HashMap<String, Arc<User>>,
}

impl Users {
    pub(crate) fn new(by_name: BTreeMap<String, Arc<User>>) -> Users {
        let mut by_number = HashMap::new();
        for user in by_name.values() {
            for number in user.did.iter().chain(&user.numbers) {
                by_number.entry(number.clone()).or_insert_with(|| user.clone());
            }
        }
        Users(Arc::new(UserTable { by_name, by_number }))
    }

    /// The user whose `did`, or one of whose `numbers`, this is.
    pub(crate) fn owner_of(&self, number: &str) -> Option<&Arc<User>> {
        self.0.by_number.get(number)
    }
}

impl Deref for Users {
    type Target = BTreeMap<String, Arc<User>>;

    fn deref(&self) -> &BTreeMap<String, Arc<User>> {
        &self.0.by_name
    }
}

/// Trunks by name, by the addresses they call from, and by the name they register with.
#[derive(Clone, Debug, Default)]
pub struct TrunkTable(Arc<TrunkRows>);

#[derive(Clone, Debug, Default)]
struct TrunkRows {
    by_name: BTreeMap<String, Trunk>,
    listed: Networks,
    /// Those with a public address of their own.
    with_own_ip: Networks,
    public_ips: HashSet<IpAddr>,
    /// Those that may register, by username.
    logins: HashMap<String, String>,
    by_number: HashMap<TrunkNumber, String>,
    /// Those whose calls at once, or whose registration, the nodes of a cluster share.
    shared: Vec<String>,
    /// Those whose calls a second they share.
    paced: Vec<String>,
}

impl TrunkTable {
    pub(crate) fn new(by_name: BTreeMap<String, Trunk>) -> TrunkTable {
        let mut table = TrunkRows::default();
        for trunk in by_name.values() {
            table.listed.add(trunk);
            if let Some(ip) = trunk.public_ip {
                table.with_own_ip.add(trunk);
                table.public_ips.insert(ip);
            }
            if let Some(username) = trunk.username.as_ref().filter(|_| trunk.accepts_registration) {
                table.logins.entry(username.clone()).or_insert_with(|| trunk.name.clone());
            }
            if trunk.max_calls.is_some() || trunk.register_once {
                table.shared.push(trunk.name.clone());
            }
            if trunk.calls_per_second.is_some() {
                table.paced.push(trunk.name.clone());
            }
        }
        let mut rows = TrunkRows { by_name, ..table };
        rows.index_numbers();
        TrunkTable(Arc::new(rows))
    }

    /// The first trunk by name that allows calls from `ip`.
    pub(crate) fn at(&self, ip: IpAddr) -> Option<&Trunk> {
        self.0.by_name.get(self.0.listed.find(ip)?)
    }

    /// As [`at`](Self::at), among those with a public address of their own.
    pub(crate) fn with_own_ip_at(&self, ip: IpAddr) -> Option<&Trunk> {
        self.0.by_name.get(self.0.with_own_ip.find(ip)?)
    }

    /// The trunk that registers with this username.
    pub(crate) fn of_login(&self, username: &str) -> Option<&Trunk> {
        self.0.by_name.get(self.0.logins.get(username)?)
    }

    /// The trunk that has this number.
    pub(crate) fn numbered(&self, number: TrunkNumber) -> Option<&Trunk> {
        self.0.by_name.get(self.0.by_number.get(&number)?)
    }

    /// Whether any trunk may register.
    pub(crate) fn accept_registrations(&self) -> bool {
        !self.0.logins.is_empty()
    }

    /// Those with `max_calls` or `register_once`, by name.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Trunk> {
        self.named(&self.0.shared)
    }

    /// Those with `calls_per_second`, by name.
    pub(crate) fn paced(&self) -> impl Iterator<Item = &Trunk> {
        self.named(&self.0.paced)
    }

    fn named<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a Trunk> {
        names.iter().inspect(|_| looked_at()).filter_map(|name| self.0.by_name.get(name))
    }

    /// The public addresses that are set for single trunks.
    pub(crate) fn public_ips(&self) -> &HashSet<IpAddr> {
        &self.0.public_ips
    }

    /// Keeps the numbers trunks had `before`, by name; a new trunk gets one nobody had.
    pub(super) fn renumber(&mut self, before: &TrunkTable) {
        let mut next = before.values().map(|t| t.number.0 + 1).max().unwrap_or(0);
        let rows = Arc::make_mut(&mut self.0);
        for trunk in rows.by_name.values_mut() {
            trunk.number = before.get(&trunk.name).map_or_else(
                || {
                    next += 1;
                    TrunkNumber(next - 1)
                },
                |t| t.number,
            );
        }
        rows.index_numbers();
    }
}

impl TrunkRows {
    fn index_numbers(&mut self) {
        let numbered = self.by_name.values().map(|trunk| (trunk.number, trunk.name.clone()));
        self.by_number = numbered.collect();
    }
}

impl Deref for TrunkTable {
    type Target = BTreeMap<String, Trunk>;

    fn deref(&self) -> &BTreeMap<String, Trunk> {
        &self.0.by_name
    }
}

/// Networks, each with the first trunk by name that allows it. An address costs one look for each
/// length of a prefix that occurs.
#[derive(Clone, Debug, Default)]
struct Networks {
    trunks: HashMap<IpNet, String>,
    /// Lengths of the prefixes, of IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
}

impl Networks {
    /// Trunks are added in the order of their names.
    fn add(&mut self, trunk: &Trunk) {
        for net in &trunk.allow {
            let lengths = &mut self.lengths[usize::from(net.addr().is_ipv6())];
            if !lengths.contains(&net.prefix_len()) {
                lengths.push(net.prefix_len());
            }
            self.trunks.entry(net.trunc()).or_insert_with(|| trunk.name.clone());
        }
    }

    fn find(&self, ip: IpAddr) -> Option<&String> {
        let lengths = self.lengths[usize::from(ip.is_ipv6())].iter();
        let nets = lengths.filter_map(|length| IpNet::new(ip, *length).ok());
        nets.inspect(|_| looked_at()).filter_map(|net| self.trunks.get(&net.trunc())).min()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::check::parse_embedded;
    use crate::ids::LOOKED_AT;

    fn config(rest: &str) -> Config {
        let text = format!(
            "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n{rest}"
        );
        parse_embedded(&text, &[]).unwrap_or_else(|p| panic!("{p}")).0
    }

    #[test]
    fn what_nodes_share_of_trunks_is_found_among_ten_times_as_many_as_quickly() {
        let looks = |n: usize| {
            let others: String =
                (0..n).map(|n| format!("[trunk.r{n}]\nuri = \"sip:x.example\"\n")).collect();
            let config = config(&format!(
                "[trunk.most]\nuri = \"sip:x.example\"\nmax_calls = 9\n\
                 [trunk.pace]\nuri = \"sip:x.example\"\ncalls_per_second = 3\n{others}"
            ));
            let before = LOOKED_AT.get();
            let names = |trunks: Vec<&str>| trunks.join(" ");
            let shared = names(config.trunks.shared().map(|t| t.name.as_str()).collect());
            let paced = names(config.trunks.paced().map(|t| t.name.as_str()).collect());
            assert_eq!((shared.as_str(), paced.as_str()), ("most", "pace"));
            LOOKED_AT.get() - before
        };
        assert_eq!((looks(10), looks(100)), (2, 2));
    }

    #[test]
    fn an_address_is_the_first_trunks_by_name_however_wide_its_network() {
        let config = config(
            "[trunk.b]\nuri = \"sip:x.example\"\nallow = [\"10.1.2.0/24\", \"2001:db8::/32\"]\n\
             [trunk.a]\nuri = \"sip:x.example\"\nallow = [\"10.1.0.0/16\"]\npublic_ip = \"192.0.2.9\"\n\
             [trunk.c]\nuri = \"sip:x.example\"\nallow = [\"10.1.2.3\", \"10.9.9.9/8\"]\n\
             [trunk.d]\nuri = \"sip:x.example\"\nallow = [\"::ffff:198.51.100.9\", \"::ffff:203.0.113.0/120\"]\n",
        );
        let at = |ip: &str| config.trunks.at(ip.parse().expect("sound")).map(|t| t.name.as_str());
        for (ip, trunk) in [
            ("10.1.2.3", Some("a")),
            ("10.2.2.3", Some("c")),
            ("10.255.0.1", Some("c")),
            ("2001:db8::7", Some("b")),
            ("2001:db9::7", None),
            ("192.0.2.1", None),
            ("198.51.100.9", Some("d")),
            ("203.0.113.77", Some("d")),
        ] {
            assert_eq!(at(ip), trunk, "{ip}");
            let slow = config.trunks.values().find(|t| {
                t.allow.iter().any(|n| n.contains(&ip.parse::<std::net::IpAddr>().expect("sound")))
            });
            assert_eq!(at(ip), slow.map(|t| t.name.as_str()), "{ip}");
        }
        let with_own_ip =
            |ip: &str| config.trunks.with_own_ip_at(ip.parse().expect("sound")).is_some();
        assert!(with_own_ip("10.1.2.3") && !with_own_ip("10.2.2.3"));
    }

    #[test]
    fn a_number_leads_to_its_user_and_a_copy_costs_no_user() {
        let config = config(
            "[user.bea]\npassword = \"0123456789ab\"\nnumbers = [\"+12065550100\", \"+12065550101\"]\n\
             [user.ada]\npassword = \"0123456789ab\"\ndid = \"+12065550102\"\n",
        );
        let owner = |n: &str| config.users.owner_of(n).map(|u| u.name.as_str());
        assert_eq!(owner("+12065550101"), Some("bea"));
        assert_eq!(owner("+12065550102"), Some("ada"));
        assert_eq!(owner("ada"), None);
        assert!(std::ptr::eq(&*config.users, &*config.clone().users));
    }

    #[test]
    fn a_trunk_that_stays_keeps_its_number_and_a_new_one_gets_a_new_one() {
        let of = |names: &[&str]| {
            let texts: Vec<String> =
                names.iter().map(|n| format!("[trunk.{n}]\nuri = \"sip:x.example\"\n")).collect();
            config(&texts.concat())
        };
        let number = |config: &Config, name: &str| config.trunks[name].number.0;
        let before = of(&["b", "c"]);
        let mut after = of(&["a", "c"]);
        after.renumber(&before);
        assert_eq!((number(&after, "c"), number(&after, "a")), (number(&before, "c"), 2));
        for config in [&before, &after] {
            for trunk in config.trunks.values() {
                let found = config.trunks.numbered(trunk.number).map(|t| t.name.as_str());
                assert_eq!(found, Some(trunk.name.as_str()));
            }
        }
    }
}

//! What all nodes of a cluster are to have alike, as one number: users, trunks, dialplans, limits.

use super::Check;
use std::collections::BTreeMap;

/// What belongs to a machine rather than to the service: sections, and keys of sections.
const OF_A_NODE: [&str; 11] = [
    "server.public_ip",
    "server.stun",
    "server.state_dir",
    "web",
    "sip",
    "media",
    "api",
    "events",
    "telemetry",
    "metrics",
    "cluster",
];

/// The texts that were read.
#[derive(Default)]
pub(super) struct CommonTexts(BTreeMap<String, String>);

impl CommonTexts {
    /// Adds a dialplan, or the file itself, whose name is empty.
    pub(super) fn add(&mut self, name: &str, text: &str) {
        let Ok(mut table) = toml::from_str::<toml::Table>(text) else { return };
        if name.is_empty() {
            OF_A_NODE.iter().for_each(|key| leave_out(&mut table, key));
        }
        let mut plain = String::new();
        write(&toml::Value::Table(table), &mut plain);
        self.0.insert(name.to_owned(), plain);
    }

    /// The number; never 0.
    fn number(&self) -> u64 {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for text in self.0.iter().flat_map(|(name, text)| [name, text]) {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let hash = context.finish();
        let (first, _) = hash.as_ref().split_at(8);
        u64::from_be_bytes(first.try_into().unwrap_or_default()).max(1)
    }
}

impl Check {
    /// What this node is to have in common with the others of its cluster.
    pub(super) fn common(&self) -> u64 {
        self.common.number()
    }
}

fn leave_out(table: &mut toml::Table, key: &str) {
    match key.split_once('.') {
        None => drop(table.remove(key)),
        Some((section, key)) => {
            let section = table.get_mut(section).and_then(toml::Value::as_table_mut);
            section.map(|section| section.remove(key));
        }
    }
}

/// A value whatever the order, the comments and the layout of its file.
fn write(value: &toml::Value, out: &mut String) {
    match value {
        toml::Value::Table(table) => {
            let sorted: BTreeMap<&String, &toml::Value> = table.iter().collect();
            out.push('{');
            for (key, value) in sorted {
                out.push_str(&format!("{key:?}="));
                write(value, out);
            }
            out.push('}');
        }
        toml::Value::Array(values) => {
            out.push('[');
            values.iter().for_each(|value| write(value, out));
            out.push(']');
        }
        plain => out.push_str(&format!("{plain},")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(file: &str, plan: &str) -> u64 {
        let mut texts = CommonTexts::default();
        texts.add("", file);
        texts.add("phones", plan);
        texts.number()
    }

    #[test]
    fn nodes_differ_by_what_calls_depend_on_and_not_by_their_own_addresses() {
        let file = "[server]\ndomain = \"x\"\npublic_ip = \"192.0.2.1\"\n[cluster]\nnode = \"a\"\n\
                    [user.bob]\npassword = \"secret\"\ncontext = \"phones\"\n";
        let plan = "[[route]]\nname = \"a\"\nmatch = \"1\"\n";
        let one = number(file, plan);
        let of_another = file.replace("192.0.2.1", "192.0.2.2").replace("\"a\"", "\"b\"");
        assert_eq!(number(&of_another, &format!("# a remark\n{plan}")), one);
        let swapped = file.replace(
            "password = \"secret\"\ncontext = \"phones\"",
            "context = \"phones\"\npassword = \"secret\"",
        );
        assert_eq!(number(&swapped, plan), one, "the order of keys");
        assert_ne!(number(&file.replace("secret", "another"), plan), one, "a password");
        assert_ne!(number(&file.replace("\"x\"", "\"y\""), plan), one, "the domain");
        assert_ne!(number(file, &plan.replace("\"1\"", "\"2\"")), one, "a route");
        assert_ne!(number(file, ""), one);
    }
}

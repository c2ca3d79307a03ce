//! Lines of `kafka-acls.sh`, which an administrator runs.

use super::{Grant, Names, Operation, Resource};

/// The arguments of `kafka-acls.sh --add` behind the principal, one list for each kind of pattern.
pub fn arguments(grant: &Grant) -> Vec<Vec<String>> {
    let mut lists = Vec::new();
    for prefixed in [false, true] {
        let names: Vec<&str> = grant
            .names
            .iter()
            .filter_map(|names| match names {
                Names::Literal(name) if !prefixed => Some(name.as_str()),
                // Kafka's word for all.
                Names::Prefixed(start) if start.is_empty() && !prefixed => Some("*"),
                Names::Prefixed(start) if !start.is_empty() && prefixed => Some(start.as_str()),
                _ => None,
            })
            .collect();
        if names.is_empty() {
            continue;
        }
        let mut list = Vec::new();
        let mut pair = |flag: &str, value: &str| list.extend([flag.to_owned(), value.to_owned()]);
        grant.operations.iter().for_each(|operation| pair("--operation", word(*operation)));
        names.iter().for_each(|name| pair(flag(grant.resource), name));
        if prefixed {
            pair("--resource-pattern-type", "prefixed");
        }
        lists.push(list);
    }
    lists
}

/// All lines, by part, for whoever `principal` is.
pub fn lines(grants: &[Grant], servers: &str, principal: &str) -> String {
    let mut text = String::new();
    let mut part = None;
    for grant in grants {
        if part.replace(grant.part) != Some(grant.part) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("# {}\n", grant.part.name()));
        }
        for list in arguments(grant) {
            let words: Vec<String> = list.iter().map(|word| quoted(word)).collect();
            text.push_str(&format!(
                "kafka-acls.sh --bootstrap-server {} --command-config admin.properties --add \
                 --allow-principal {} {}   # {}\n",
                quoted(servers),
                quoted(principal),
                words.join(" "),
                grant.why,
            ));
        }
    }
    text
}

const fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "Read",
        Operation::Write => "Write",
        Operation::Create => "Create",
        Operation::Delete => "Delete",
        Operation::Describe => "Describe",
        Operation::DescribeConfigs => "DescribeConfigs",
    }
}

const fn flag(resource: Resource) -> &'static str {
    match resource {
        Resource::Topic => "--topic",
        Resource::Group => "--group",
        Resource::TransactionalId => "--transactional-id",
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".,:_-/=@[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.contains('[') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_signs_of_the_shell_is_quoted() {
        for (word, written) in [
            ("User:tailwater", "User:tailwater"),
            ("*", "'*'"),
            ("User:CN=a, O=b", "'User:CN=a, O=b'"),
            ("it's", r"'it'\''s'"),
            ("[::1]:9092", "'[::1]:9092'"),
        ] {
            assert_eq!(quoted(word), written);
        }
    }
}

//! Statements and routes, by tables: what a text of rsyslog's comes to.

use std::sync::Arc;

use super::notes::Notes;
use super::syntax::{Kind, Statement};
use super::{RANK, meaning, parse};
use crate::config::foreign::{Foreign, Reading};
use crate::config::report::{Mistakes, Position};
use crate::config::tree::{Node, Value};

fn statements(text: &str) -> Result<Vec<Statement>, String> {
    parse::parse(text, &Arc::from("r.conf"), RANK).map_err(|mistake| mistake.to_string())
}

/// What a text comes to, and the mistakes that are no mistakes of syntax.
fn read(text: &str) -> (Foreign, Vec<String>) {
    let statements = statements(text).unwrap_or_else(|mistake| panic!("{text}: {mistake}"));
    let at = Position { rank: RANK, file: Arc::from("r.conf"), line: 0, column: 0 };
    let mut mistakes = Mistakes::default();
    let foreign = meaning(&statements, &at, true, Notes::default(), &mut mistakes);
    (foreign, mistakes.0.iter().map(ToString::to_string).collect())
}

fn text_of(node: &Node, key: &str) -> String {
    match node.get(key).map(|node| &node.value) {
        Some(Value::Scalar(scalar)) => scalar.text.clone(),
        Some(Value::List(items)) => {
            let texts = items.iter().map(|item| match &item.value {
                Value::Scalar(scalar) => scalar.text.clone(),
                _ => panic!("{key} holds no texts"),
            });
            texts.collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    }
}

fn entries(foreign: &Foreign, key: &str) -> Vec<(String, Node)> {
    match foreign.root.get(key).map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|entry| (entry.key.clone(), entry.node.clone())).collect(),
        _ => Vec::new(),
    }
}

/// Each route in a line: its condition, where it leads, `+` where it goes on.
fn routes(foreign: &Foreign) -> Vec<String> {
    let Some(Value::List(routes)) = foreign.root.get("routes").map(|node| &node.value) else { return Vec::new() };
    let show = |route: &Node| {
        let to = match text_of(route, "discard").as_str() {
            "true" => "discard".to_owned(),
            _ => text_of(route, "output"),
        };
        let input = text_of(route, "input");
        let input = if input.is_empty() { input } else { format!("[{input}] ") };
        let on = if text_of(route, "continue") == "true" { " +" } else { "" };
        format!("{input}{} -> {to}{on}", text_of(route, "when"))
    };
    routes.iter().map(show).collect()
}

#[track_caller]
fn assert_routes(text: &str, expected: &[&str]) {
    let (foreign, mistakes) = read(text);
    assert_eq!(mistakes, Vec::<String>::new(), "{text}");
    assert_eq!(routes(&foreign), expected, "{text}");
}

fn unsupported(text: &str) -> Vec<String> {
    let (foreign, _) = read(text);
    let notes = foreign.notes.iter().filter(|note| note.reading == Reading::Unsupported);
    notes.map(|note| format!("{}:{} {}", note.at.line, note.at.column, note.construct)).collect()
}

#[test]
fn an_action_goes_on_unless_a_stop_or_the_end_follows_surely() {
    assert_routes("/a\n/b\n", &[" -> a +", " -> b"]);
    assert_routes("/a\nstop\n/b\n", &[" -> a"]);
    assert_routes("*.* /a\n*.* ~\n", &[" -> a"]);
    assert_routes("if $msg == 'x' then { /a\nstop }\n/b\n", &["$msg == 'x' -> a", " -> b"]);
    assert_routes("if $msg == 'x' then { /a\n}\nstop\n", &["$msg == 'x' -> a", " -> discard"]);
    assert_routes("if $msg == 'x' then stop\n/b\n", &["$msg == 'x' -> discard", " -> b"]);
    assert_routes("if $msg == 'x' then /a\n& /c\n& stop\n/b\n", &["$msg == 'x' -> a +", "$msg == 'x' -> c", " -> b"]);
}

#[test]
fn else_has_the_condition_negated_and_blocks_have_all_of_them() {
    assert_routes(
        "if $msg == 'x' or $msg == 'y' then { if $programname == 'p' then /a } else if $hostname == 'h' then /b else /c\n",
        &[
            "($msg == 'x' or $msg == 'y') and ($programname == 'p') -> a",
            "(not ($msg == 'x' or $msg == 'y')) and ($hostname == 'h') -> b",
            "(not ($msg == 'x' or $msg == 'y')) and (not ($hostname == 'h')) -> c",
        ],
    );
    // Where both ways end, what follows is never reached.
    assert_routes(
        "if $msg == 'x' then { /a\nstop } else { /b\nstop }\n/c\n",
        &["$msg == 'x' -> a", "not ($msg == 'x') -> b"],
    );
}

#[test]
fn filters_of_old_are_conditions() {
    assert_routes(
        "auth,authpriv.*;*.!debug /a\n:programname, startswith, \"ha\" {\n /b\n stop\n}\n:msg, !contains, \"x\" /c # why\n",
        &[
            "prifilt('auth,authpriv.*;*.!debug') -> a +",
            "$programname startswith 'ha' -> b",
            "not ($msg contains 'x') -> c",
        ],
    );
    assert_routes("*.* { if $msg == 'x' then { /a } }\n", &["$msg == 'x' -> a"]);
    // As Debian's own file had it.
    assert_routes("*.=debug;\\\n\tauth.none;\\\n\tmail.none\t-/a\n", &["prifilt('*.=debug;auth.none;mail.none') -> a"]);
    assert_routes(
        "template(name=\"t\" type=\"odd\" config.enabled=\"off\")\naction(type=\"omfile\" file=\"/a\" config.enabled=\"off\")\n/b\n",
        &[" -> b"],
    );
}

#[test]
fn rulesets_have_the_inputs_that_name_them() {
    let text = "
        input(type=\"imtcp\" address=\"127.0.0.1\" port=\"1\" ruleset=\"r\" name=\"one\")
        input(type=\"imudp\" address=\"127.0.0.1\" port=[\"2\", \"3\"])
        $InputTCPServerBindRuleset r
        $InputTCPServerRun 4
        ruleset(name=\"r\") { /a }
        ruleset(name=\"nobody\") { /c }
        /b
    ";
    assert_routes(text, &["[imudp]  -> b", "[one,imtcp]  -> a"]);
    assert_eq!(unsupported(text), ["7:9 ruleset \"nobody\""]);
    let (foreign, _) = read(text);
    let listen: Vec<String> = entries(&foreign, "inputs").iter().map(|(_, input)| text_of(input, "listen")).collect();
    assert_eq!(listen[..2], ["tcp://127.0.0.1:1", "udp://127.0.0.1:2,udp://127.0.0.1:3"]);
}

#[test]
fn a_call_is_its_rulesets_steps_and_a_queue_makes_it_work_on_a_copy() {
    let r = "ruleset(name=\"r\") { if $msg == 'x' then stop\n/a }\n";
    assert_routes(&format!("{r}call r\n/b\n"), &["$msg == 'x' -> discard", " -> a +", " -> b"]);
    let copy = r.replace("name=\"r\"", "name=\"r\" queue.type=\"LinkedList\"");
    assert_routes(
        &format!("{copy}if $hostname == 'h' then call r\n/b\nstop\n"),
        &["($hostname == 'h') and (not (($hostname == 'h') and ($msg == 'x'))) -> a +", " -> b"],
    );
    // Each calls the next one ten times: a billion steps.
    let many: String = (0..9)
        .map(|index| format!("ruleset(name=\"r{index}\") {{ {} }}\n", format!("call r{}\n", index + 1).repeat(10)))
        .collect();
    let (_, mistakes) = read(&format!("{many}ruleset(name=\"r9\") {{ set $.a = 'x'; }}\ncall r0\n"));
    assert!(
        mistakes.iter().any(|mistake| mistake.ends_with("steps: rulesets that are called too often")),
        "{mistakes:?}"
    );
    let (_, mistakes) = read("ruleset(name=\"r\") { call s }\nruleset(name=\"s\") { call r }\ncall r\ncall t\n");
    assert_eq!(
        mistakes,
        [
            "r.conf:2:21: call r: rulesets that call each other without an end",
            "r.conf:4:1: call t: there is no ruleset of that name",
        ]
    );
}

#[test]
fn a_variable_stands_for_what_it_was_set_to_where_that_is_known() {
    assert_routes(
        "set $.a = 'x';\nset $.b = $hostname;\nif $.b == $.a and $msg contains \"$.a\" then /a\n",
        &["$hostname == 'x' and $msg contains \"$.a\" -> a"],
    );
    let text = "if $msg == 'x' then set $.a = 'x';\nif $.a == 'x' then /a\n/b\n";
    assert_routes(text, &[" -> b"]);
    assert_eq!(unsupported(text), ["2:1 $.a"]);
    let text = "set $.a = tolower($msg);\nset $!b = 'x';\nif $.a == 'x' then /a else /c\n/b\n";
    assert_routes(text, &[" -> c +", " -> b"]);
    assert_eq!(unsupported(text), ["1:1 set $.a", "2:1 set $!b", "3:1 $.a"]);
}

#[test]
fn equal_outputs_are_one_and_keys_leave_their_templates() {
    let text = "
        template(name=\"t\" type=\"string\" string=\"%msg% [SEKOIA@53288 intake_key=\\\"abc\\\"]\\n\")
        $template u,\"%msg% [SEKOIA@53288 intake_key=\\\"def\\\"]\\n\"
        template(name=\"l\" type=\"list\") { constant(value=\"<\") property(name=\"pri\") constant(value=\">\\n\")
            property(name=\"timestamp\" dateFormat=\"rfc3339\") }
        if $programname == 'a' then @@(o)[::1]:601;t
        if $programname == 'b' then @@(o)[::1]:601;u
        if $programname == 'c' then @@host;RSYSLOG_ForwardFormat
        @host:515;l
    ";
    let (foreign, mistakes) = read(text);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let outputs: Vec<String> = entries(&foreign, "outputs").iter().map(|(_, node)| text_of(node, "to")).collect();
    assert_eq!(outputs, ["tcp://[::1]:601", "tcp://host:514", "udp://host:515"]);
    let framing: Vec<String> = entries(&foreign, "outputs").iter().map(|(_, node)| text_of(node, "framing")).collect();
    assert_eq!(framing, ["", "lf", ""]);
    let Some(Value::List(routes)) = foreign.root.get("routes").map(|node| &node.value) else { panic!("no routes") };
    let templates: Vec<[String; 2]> =
        routes.iter().map(|route| ["template", "intake_key"].map(|key| text_of(route, key))).collect();
    let ours = "%msg% [SEKOIA@53288 intake_key=\"%intake_key%\"]\\n";
    assert_eq!(templates[0], [ours, "abc"]);
    assert_eq!(templates[1], [ours, "def"]);
    assert_eq!(
        templates[2][0],
        "<%pri%>%timestamp:::date-rfc3339% %hostname% %syslogtag:1:32%%msg:::sp-if-no-1st-sp%%msg%"
    );
    assert_eq!(templates[3][0], "<%pri%>\\n%timestamp:::date-rfc3339%");
}

#[test]
fn tls_is_taken_over_from_directives_objects_and_the_whole() {
    let rows = [
        (
            "action(type=\"omfwd\" target=\"h\" port=\"1\" protocol=\"tcp\" StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"h\")",
            "tls://h:1",
            "/ca",
            "",
        ),
        (
            "action(type=\"omfwd\" target=\"h\" port=\"1\" protocol=\"tcp\" StreamDriver=\"ossl\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"peer.example\")",
            "tls://h:1",
            "/ca",
            "peer.example",
        ),
        (
            "action(type=\"omfwd\" target=\"intake.sekoia.io\" port=\"1\" protocol=\"tcp\" StreamDriver=\"ossl\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\")",
            "tls://intake.sekoia.io:1",
            "",
            "",
        ),
        ("action(type=\"omfwd\" target=\"h\" port=\"1\" protocol=\"tcp\" StreamDriver=\"gtls\")", "tcp://h:1", "", ""),
        (
            "$ActionSendStreamDriver gtls # TLS\n$ActionSendStreamDriverMode 1\n$ActionSendStreamDriverAuthMode x509/name\n$ActionSendStreamDriverPermittedPeer p\n@@h:1",
            "tls://h:1",
            "/ca",
            "p",
        ),
        (
            "action(type=\"omrelp\" target=\"h\" port=\"1\" tls=\"on\" tls.caCert=\"/r\" tls.authMode=\"name\" tls.permittedPeer=[\"q\"])",
            "relp+tls://h:1",
            "/r",
            "q",
        ),
        ("action(type=\"omrelp\" target=\"h\")", "relp+tcp://h:514", "", ""),
        // Sekoia's own lines, whose directive for TLS stands in another file.
        ("@@(o)intake.sekoia.io:10514", "tls://intake.sekoia.io:10514", "", ""),
        (
            "action(type=\"omrelp\" target=\"intake.fra2.sekoia.io\" port=\"1\")",
            "relp+tls://intake.fra2.sekoia.io:1",
            "",
            "",
        ),
    ];
    for (text, to, ca, name) in rows {
        let (foreign, _) = read(&format!("$DefaultNetstreamDriverCAFile /ca\n{text}\n"));
        let outputs = entries(&foreign, "outputs");
        let [(_, output)] = outputs.as_slice() else { panic!("{text}: {outputs:?}") };
        let none = Node::map(&output.at);
        let tls = output.get("tls").unwrap_or(&none);
        assert_eq!([text_of(output, "to"), text_of(tls, "ca"), text_of(tls, "server_name")], [to, ca, name], "{text}");
    }
}

#[test]
fn listeners_of_old_speak_tls_where_they_are_told_to() {
    let text = "$DefaultNetstreamDriver gtls\n$DefaultNetstreamDriverCAFile /ca\n$DefaultNetstreamDriverCertFile /cert\n\
                $DefaultNetstreamDriverKeyFile /key\n$InputTCPServerStreamDriverMode 1\n\
                $InputTCPServerStreamDriverAuthMode x509/certvalid\n$InputTCPServerInputName gate\n\
                $InputTCPServerRun 6514\n$UDPServerAddress 127.0.0.1\n$UDPServerRun 514\n";
    let (foreign, _) = read(text);
    let inputs = entries(&foreign, "inputs");
    let [(name, input), (udp, datagrams)] = inputs.as_slice() else { panic!("{inputs:?}") };
    assert_eq!((name.as_str(), udp.as_str()), ("gate", "imudp"));
    assert!(text_of(input, "listen").starts_with("tls://0.0.0.0:6514"));
    let tls = input.get("tls").expect("certificates");
    assert_eq!(["cert", "key", "client_ca"].map(|key| text_of(tls, key)), ["/cert", "/key", "/ca"]);
    assert_eq!(text_of(datagrams, "listen"), "udp://127.0.0.1:514");
    assert_eq!(unsupported(text), Vec::<String>::new());
}

#[test]
fn queues_are_one_spool() {
    let rows = [
        ("main_queue(queue.type=\"LinkedList\" queue.size=\"10\")\n/a\n", None),
        (
            "$ActionQueueFileName q\n$ActionQueueMaxDiskSpace 5g\n$WorkDirectory /w/\n/a\n",
            Some(["/w/forebay", "5GiB", ""]),
        ),
        (
            "ruleset(name=\"r\" queue.filename=\"q\" queue.maxDiskSpace=\"1G\" queue.spoolDirectory=\"/s\") { /a }\n\
             main_queue(queue.filename=\"m\" queue.maxdiskspace=\"2G\" queue.type=\"Disk\")\n",
            Some(["/s/forebay", "3GB", "always"]),
        ),
        (
            "main_queue(queue.filename=\"m\" queue.maxdiskspace=\"1\")\n",
            Some(["/var/spool/rsyslog/forebay", "16MiB", ""]),
        ),
    ];
    for (text, expected) in rows {
        let (foreign, _) = read(text);
        let spool = foreign.root.get("spool");
        let found = spool.map(|spool| ["dir", "max_size", "durability"].map(|key| text_of(spool, key)));
        assert_eq!(found, expected.map(|texts| texts.map(str::to_owned)), "{text}");
    }
}

#[test]
fn mistakes_of_syntax_have_their_place() {
    let rows = [
        ("if ($hostname isequal \"a\") then { ... }\n", "1:35: found \"...\", expected a directive ($…)"),
        ("\n  if $msg == 'x' {\n stop }\n", "2:18: found \"{\", expected \"then\""),
        ("ruleset(name=\"r\") { /a\n", "1:19: found \"{\" without its \"}\""),
        ("/a\n}\n", "2:1: found \"}\" without its \"{\""),
        ("input(type=\"imtcp\"\n", "1:6: found \"(\" without its \")\""),
        ("input(type=imtcp)\n", "1:12: found \"imtcp\", expected \""),
        ("input(type \"imtcp\")\n", "1:12: found \"\\\"\", expected \"=\" behind type"),
        ("module(load=\"imtcp)\n", "1:13: found \" without its closing \""),
        ("/* open\n", "1:1: found \"/*\" without its \"*/\""),
        ("$ vi /etc/rsyslog.conf\n", "1:1: found \"$\", expected a directive's name"),
        (":msg, contains \"x\" /a\n", "1:16: found \"\\\"\", expected \",\" and a text in quotes"),
        ("global(workDirectory=`echo $DIR`)\n", "1:22: found a text in backquotes"),
        ("call\n", "1:5: found the end of the line, expected a ruleset's name"),
        ("*.*\n", "2:1: found the end of the file, expected an action or a block"),
        ("set $.a 'x';\n", "1:5: found \"set\", expected $.NAME = EXPRESSION;"),
        ("template(string=\"intake_key=\"abcdefgh12345678\"]\")\n", "1:46: found \"\\\"\", expected \"=\" behind ****"),
        ("/a\nabcdefgh12345678\n", "2:1: found \"****\", expected a directive"),
        ("services:\n", "1:1: found \"services\", expected a directive"),
    ];
    for (text, expected) in rows {
        let mistake = statements(text).expect_err(text);
        assert!(mistake.starts_with(&format!("r.conf:{expected}")), "{text}: {mistake}");
    }
    let deep = "{".repeat(100_000);
    assert!(statements(&deep).is_err_and(|mistake| mistake.contains("nested deeper than 64 levels")));
    let deep = "if $msg == 'x' then ".repeat(10_000);
    assert!(statements(&deep).is_err_and(|mistake| mistake.contains("nested deeper than 64 levels")));
}

#[test]
fn comments_continuations_and_odd_spacing_are_read_as_rsyslog_does() {
    let text =
        "# a comment with \"quotes\n/* and\nanother */ IF($msg=='#no')THEN{/a\n}\n$WorkDirectory \\\n  /w # here\n";
    let statements = statements(text).expect("statements");
    let kinds: Vec<&Kind> = statements.iter().map(|statement| &statement.kind).collect();
    let [Kind::If { condition, .. }, Kind::Directive { name, value }] = kinds.as_slice() else { panic!("{kinds:?}") };
    assert_eq!((condition.as_str(), name.as_str(), value.as_str()), ("($msg=='#no')", "WorkDirectory", "/w"));
    assert_eq!(statements[1].at.to_string(), "r.conf:5:1");
}

#[test]
fn what_has_no_equal_is_told() {
    let text = "module(load=\"imfile\")\nmodule(load=\"impstats\" interval=\"60\")\n*.emerg :omusrmsg:*\nkern.* |/dev/xconsole\n\
                local0.* root,operator\naction(type=\"omprog\" binary=\"/b\")\n$Nonsense 1\n\
                action(type=\"omfile\" dynaFile=\"t\")\nforeach ($.i in $!list) do { stop }\n\
                action(type=\"omfwd\" target=\"h\" action.execOnlyWhenPreviousIsSuspended=\"on\")\n";
    assert_eq!(
        unsupported(text),
        [
            "1:1 module(load=\"imfile\")",
            "2:1 module(load=\"impstats\")",
            "3:9 :omusrmsg:*",
            "4:8 |/dev/xconsole",
            "5:10 root,operator",
            "6:22 action(type=\"omprog\") binary",
            "6:1 action(type=\"omprog\")",
            "7:1 $Nonsense",
            "8:1 action(type=\"omfile\")",
            "9:1 foreach",
            "10:1 action(type=\"omfwd\")",
        ]
    );
    assert_routes("$OmitLocalLogging on\n", &[]);
}

#[test]
fn a_message_that_meets_mmjsonparse_has_variables_that_nobody_knows() {
    let filter = "if $!event.code == 4634 then stop\n/a\n";
    assert_routes(filter, &["$!event.code == 4634 -> discard", " -> a"]);
    let text = format!("module(load=\"mmjsonparse\")\n{filter}");
    assert_routes(&text, &[" -> a"]);
    assert_eq!(unsupported(&text), ["1:1 module(load=\"mmjsonparse\")", "2:1 $!event.code"]);
}

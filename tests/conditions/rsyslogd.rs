//! What a real rsyslogd says: which conditions hold for which messages.

use std::collections::HashSet;

use crate::support::installed;
use crate::support::rsyslogd::Rsyslogd;

/// Which of `filters` (`if EXPRESSION then`, or `:property, operator, "value"`) hold for each frame. Frame `n` of several has
/// the time of day `n` seconds in its stamp. `None`, said, where no rsyslogd is installed.
pub(crate) fn ask(filters: &[String], frames: &[Vec<u8>]) -> Option<Vec<HashSet<usize>>> {
    let executable = installed("rsyslogd")?;
    // A message is known by the time of day in its stamp.
    let stamp = ["hour", "minute", "second"].map(|part| format!("%timereported:::date-{part}%")).join(":");
    let rule = |(index, filter): (usize, &String)| {
        format!(
            "template(name=\"t{index}\" type=\"string\" string=\"{index} {stamp}\\n\")\n\
             {filter} action(type=\"omfile\" file=\"DIRECTORY/out\" template=\"t{index}\")\n"
        )
    };
    let rules: String = filters.iter().enumerate().map(rule).collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let rsyslogd = Rsyslogd::through(&executable, "", "lan", &rules, &frames);
    // It warns of facilities that there are not, and takes the expression.
    let refused = |line: &String| line.contains("error during parsing") && !line.contains("expression will always");
    assert_eq!(rsyslogd.lines("errors").into_iter().find(refused), None);
    let mut held = vec![HashSet::new(); frames.len()];
    for line in rsyslogd.lines("out") {
        let (index, time) = line.split_once(' ').unwrap();
        let time: Vec<usize> = time.split(':').map(|part| part.parse().unwrap()).collect();
        let number = time[0] * 3600 + time[1] * 60 + time[2];
        // A single message of the table has a stamp of its own.
        let frame = if frames.len() == 1 { 0 } else { number };
        held[frame].insert(index.parse().unwrap());
    }
    Some(held)
}

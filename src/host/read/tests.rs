use std::fs;
use std::path::Path;

use super::*;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn the_tables_of_the_kernel_are_read_by_the_names_of_their_columns() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(udp(root.path()), None);
    write(
        root.path(),
        "proc/net/snmp",
        "Ip: A B\nIp: 1 2\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n\
         Udp: 100 2 30 4 20 0 3 0 7\nUdpLite: InDatagrams\nUdpLite: 9\n",
    );
    let old = Udp { received: 100, buffer_errors: 20, memory_errors: 7, checksum_errors: 3 };
    assert_eq!(udp(root.path()), Some(old));
    write(
        root.path(),
        "proc/net/snmp6",
        "Ip6InReceives  5\nUdp6InDatagrams   \t10\nUdp6RcvbufErrors 1\nUdpLite6InDatagrams 8\n",
    );
    assert_eq!(udp(root.path()), Some(Udp { received: 110, buffer_errors: 21, ..old }));
    assert_eq!(softnet_dropped("00365011 00000003 00000000\n00305192 0000000a 00000004\n"), Some(13));
    assert_eq!(softnet_dropped("no table"), None);
    let stat =
        "entries  clashres found drop early_drop\n00000001 0 0 0000000f 00000001\n00000001 0 0 00000001 00000000\n";
    assert_eq!(conntrack_dropped(stat), Some(16));
    assert_eq!(conntrack_dropped("entries found\n1 2\n"), None);
    assert_eq!(memory_total("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
    let status = "Name:\tforebay\nUid:\t1000\t999\t1000\t1000\nCapEff:\t0000000000000400\n";
    assert_eq!((user(status), capabilities(status)), (Some(999), Some(0x400)));
}

#[test]
fn limits_of_control_groups_are_the_lowest_on_the_way_up_in_both_versions() {
    let root = tempfile::tempdir().unwrap();
    let memory = |folder: &Path, file: &str| number(&fs::read_to_string(folder.join(file)).ok()?);
    let files = ["memory.max", "memory.limit_in_bytes"];
    let of_memory = || lowest(root.path(), "memory", &files, memory).map(|(limit, _)| limit);
    let of_time = || lowest(root.path(), "cpu", &["cpu.max", "cpu.cfs_quota_us"], processor_time).map(|(time, _)| time);
    assert_eq!((of_memory(), of_time()), (None, None));
    write(root.path(), "proc/self/cgroup", "0::/system.slice/forebay.service\n");
    let group = "sys/fs/cgroup/system.slice/forebay.service";
    write(root.path(), &format!("{group}/memory.max"), "max\n");
    write(root.path(), &format!("{group}/cpu.max"), "max 100000\n");
    assert_eq!((of_memory(), of_time()), (None, None));
    write(root.path(), "sys/fs/cgroup/system.slice/memory.max", "268435456\n");
    write(root.path(), &format!("{group}/cpu.max"), "150000 100000\n");
    assert_eq!((of_memory(), of_time()), (Some(256 << 20), Some(1.5)));

    // Version 1, in a container that sees its group as the top and its path as the machine's.
    write(root.path(), "proc/self/cgroup", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n");
    write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n");
    write(root.path(), "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    write(root.path(), "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_eq!((of_memory(), of_time()), (Some(64 << 20), None));
    write(root.path(), "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
    assert_eq!(of_time(), Some(0.5));
}

#[test]
fn the_mount_of_a_path_is_the_deepest_and_the_last() {
    let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                  23 22 0:21 /sys /proc/sys ro,relatime shared:3 - proc proc rw\n\
                  27 1 254:0 / / rw - overlay overlay rw\n\
                  30 27 254:1 / /var/spool/a\\040b rw - tmpfs tmpfs rw\n\
                  31 27 254:2 / /var/spool/a\\040b rw - ext4 /dev/vdb rw\n";
    assert!(is_read_only(mounts, Path::new("/proc/sys/net")));
    assert!(!is_read_only(mounts, Path::new("/proc/self")));
    assert_eq!(mount_of(mounts, Path::new("/var/spool/a b/c")), Some(("rw", "ext4")));
    assert_eq!(mount_of(mounts, Path::new("/var/spool/a")), Some(("rw", "overlay")));
}

#[test]
fn a_spool_that_is_not_there_yet_is_judged_by_the_folder_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let there = disk(&dir.path().join("not/yet"), None).unwrap();
    assert_eq!((there.folder.as_path(), there.used, there.refused), (dir.path(), 0, None));
    write(dir.path(), "not/yet/a/segment", &"x".repeat(10_000));
    let there = disk(&dir.path().join("not/yet"), Some("27 1 254:0 / / rw - ext4 /dev/vda rw\n")).unwrap();
    assert_eq!(there.kind.as_deref(), Some("ext4"));
    assert!((10_000..100_000).contains(&there.used), "{there:?}");
}

#[test]
fn an_empty_root_is_read_as_knowing_nothing() {
    let root = tempfile::tempdir().unwrap();
    let source = crate::config::Source::Text {
        name: "forebay.yaml".to_owned(),
        text: "inputs: {lan: {listen: 'udp://127.0.0.1:0'}}\noutputs: {a: {to: 'tcp://127.0.0.1:9'}}\n\
               routes: [{name: all, template: '%msg%'}]\n"
            .to_owned(),
    };
    let config = crate::config::load(&source, &|_| None).unwrap().config;
    let facts = read(&config, root.path());
    assert_eq!((facts.user, facts.capabilities, facts.udp, facts.conntrack), (None, None, None, None));
    assert!(facts.sysctls.is_empty() && !facts.is_sysctl_read_only);
    // What system calls say needs no file.
    assert!(facts.open_files.is_some() && facts.receive_buffer.is_some() && facts.clock.is_some());
}

//! Every default, minimum and maximum, with its reason.

use std::time::Duration;

/// One KiB, in octets.
pub const KIB: u64 = 1 << 10;
/// One MiB, in octets.
pub const MIB: u64 = 1 << 20;
/// One GiB, in octets.
pub const GIB: u64 = 1 << 30;
/// One second, in milliseconds.
pub const SECOND_MS: u64 = 1_000;
/// One hour, in milliseconds.
pub const HOUR_MS: u64 = 3_600 * SECOND_MS;

/// A file of 2,000 routes with long templates stays far below; a log file given by mistake does not.
pub const FILE_SIZE_MAX: u64 = MIB;
/// Fragments in a directory: one for each of Sekoia's formats, with room.
pub const FRAGMENTS_MAX: usize = 1_000;
/// Several for each of Sekoia's formats. Each is a lane and some metric series; all pairs are looked at for shadows.
pub const ROUTES_MAX: usize = 4_096;
/// Octets of a name: it becomes a metric's label.
pub const NAME_LEN_MAX: usize = 64;

/// Sekoia drops larger events without a word.
pub const MESSAGE_SIZE: usize = 250 << 10;
/// RFC 5424 section 6.1: what every receiver must take.
pub const MESSAGE_SIZE_MIN: u64 = 480;
/// Sixty-four times Sekoia's limit: no collector takes more, and each connection may own that much.
pub const MESSAGE_SIZE_MAX: u64 = 16 * MIB;

/// rsyslog's.
pub const IMPSTATS_INTERVAL: Duration = Duration::from_secs(300);
/// A few dozen messages a second at most.
pub const IMPSTATS_INTERVAL_MIN_MS: u64 = SECOND_MS;
/// A day: whoever looks less often does not look.
pub const IMPSTATS_INTERVAL_MAX_MS: u64 = 24 * HOUR_MS;

/// Some 100 bytes of memory each when idle: 1 MB.
pub const CONNECTIONS: usize = 10_000;
/// A NAT gateway or load balancer in front of a site may bring all its devices from one address.
pub const CONNECTIONS_PER_PEER: usize = 1_000;
/// File descriptors end first.
pub const CONNECTIONS_MAX: u64 = 1_000_000;

/// The kernel doubles what it is given and needs room for one datagram.
pub const RECEIVE_BUFFER_MIN: u64 = 4 * KIB;
/// `SO_RCVBUF` is an int that the kernel doubles.
pub const RECEIVE_BUFFER_MAX: u64 = GIB - 1;

/// Sekoia's own check: sixteen letters and digits, or more.
pub const KEY_LEN_MIN: usize = 16;
/// Where every region takes syslog over TLS.
pub const REGION_PORT: u16 = 10_514;
/// Where every region takes RELP over TLS.
pub const REGION_RELP_PORT: u16 = 11_514;
/// RFC 9110 section 4.2.2.
pub const HTTPS_PORT: u16 = 443;
/// RFC 9110 section 4.2.1.
pub const HTTP_PORT: u16 = 80;

/// Two retransmitted SYNs (1 s and 3 s) and an answer from the far side of the earth.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Two round trips and a certificate check; a peer that needs five seconds will never finish, and the next attempt may
/// reach one that does.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A collector that takes or acknowledges nothing for so long is taken to be stuck: a new connection may reach another
/// node of it.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Below the 350 s after which cloud load balancers and NAT gateways forget a silent flow without telling.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
/// As patient as [`STALL_TIMEOUT`]: both mean a path that no longer carries anything.
pub const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeouts below one millisecond cannot be kept by the timer.
pub const TIMEOUT_MIN_MS: u64 = 1;
/// Timeouts above an hour are no timeouts.
pub const TIMEOUT_MAX_MS: u64 = HOUR_MS;
/// Below a second, senders of one message a second would reconnect for each.
pub const IDLE_MIN_MS: u64 = SECOND_MS;
/// A week: a device that is silent longer may as well reconnect.
pub const IDLE_MAX_MS: u64 = 7 * 24 * HOUR_MS;

/// Connections to one destination over all shards.
pub const OUTPUT_CONNECTIONS_MAX: u64 = 4_096;
/// More than a collector's socket buffer usually holds (its kernel acknowledges what its process has not read yet).
pub const REPLAY_WINDOW: usize = 4 << 20;
/// A window beyond it would send minutes of duplicates after each break.
pub const REPLAY_WINDOW_MAX: u64 = GIB;
/// A collector that has not read for half a minute would have closed its window long before.
pub const REPLAY_QUIET: Duration = Duration::from_secs(30);

/// A collector that was restarted has found its feet by then; moving back to one that comes and goes costs a break each
/// time.
pub const PREFER_AFTER: Duration = Duration::from_secs(30);
/// Half for each: the backlog shrinks at any load, and live messages find at least as much room.
pub const BACKLOG_SHARE: u8 = 50;
/// What a real imrelp takes on any road: with 4,096 one fell silent now and then after a partition. A break sends no more than
/// these again.
pub const RELP_WINDOW: usize = 512;
/// Beyond it a break would send minutes of duplicates.
pub const RELP_WINDOW_MAX: u64 = 1_000_000;
/// A little less than the nine tenths of [`BODY_MAX`] that Sekoia's own clients send at most.
pub const BODY: usize = 9_000_000;
/// A body below it is a request for each few messages, and an event of 250 KiB is sent alone anyway.
pub const BODY_MIN: u64 = 64 * KIB;
/// What Sekoia's own clients hold to be the intake's maximum.
pub const BODY_MAX: u64 = 10 * MIB;
/// As patient as [`STALL_TIMEOUT`]: an intake that stores 9 MB answers within seconds.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An intake in the cloud hangs up after a minute or more; a request that meets its close is sent twice.
pub const HTTPS_IDLE: Duration = Duration::from_secs(60);
/// What Sekoia's FAQ on its firewall advises.
pub const REQUESTS_PER_SECOND: u32 = 5;
/// Twenty times what Sekoia advises: for intakes of one's own.
pub const REQUESTS_PER_SECOND_MAX: u64 = 100;

/// A file that an editor still opens.
pub const ROTATE_SIZE: u64 = 100 * MIB;
/// One message of Sekoia's size would begin a file each below it.
pub const ROTATE_SIZE_MIN: u64 = 64 * KIB;
/// 1 TiB: more is a slip of the keyboard.
pub const ROTATE_SIZE_MAX: u64 = 1_024 * GIB;
/// More often than that nobody looks.
pub const ROTATE_AGE_MIN_MS: u64 = 60 * SECOND_MS;
/// A year.
pub const ROTATE_AGE_MAX_MS: u64 = 365 * 24 * HOUR_MS;
/// With one a day: a week.
pub const ROTATE_KEEP: usize = 7;
/// Each rotation lists them.
pub const ROTATE_KEEP_MAX: u64 = 1_000;

/// Resident, whole process: 12 MiB when idle, the rest for queues and replay windows.
pub const MEMORY_MAX: usize = 64 << 20;
/// Less than the program and the buffers of two shards may take: queues and replay windows are small then, and the log
/// says so.
pub const MEMORY_MAX_MIN: u64 = 24 * MIB;
/// 1 TiB: more is a slip of the keyboard.
pub const MEMORY_MAX_MAX: u64 = 1_024 * GIB;

/// One large message fits, compressed or not, beside what the spool needs for itself.
pub const SPOOL_SIZE_MIN: u64 = 16 * MIB;
/// Some hours of a busy relay; a disk that has less says so.
pub const SPOOL_SIZE: u64 = 10 * GIB;
/// 1 PiB: more is a slip of the keyboard.
pub const SPOOL_SIZE_MAX: u64 = 1_024 * 1_024 * GIB;
/// What the machine's logs and package manager need to go on when the spool has taken all that it may.
pub const SPOOL_MIN_FREE: u64 = 256 * MIB;
/// Short enough that a power cut loses a blink, long enough that even a slow disk keeps up with its syncs.
pub const SPOOL_SYNC: Duration = Duration::from_millis(200);
/// Below it a sync follows a sync: `every_batch` is what is meant.
pub const SPOOL_SYNC_MIN_MS: u64 = 10;
/// A power cut loses as much.
pub const SPOOL_SYNC_MAX_MS: u64 = 60 * SECOND_MS;
/// Longer than a reconnect takes: a short break does not touch the disk.
pub const SPILL_AFTER: Duration = Duration::from_secs(5);
/// Below it every pause of a destination would go through the disk.
pub const SPILL_AFTER_MIN_MS: u64 = 100;
/// What waits in memory for longer is lost with the machine.
pub const SPILL_AFTER_MAX_MS: u64 = HOUR_MS;

/// Container runtimes kill ten seconds after SIGTERM (Docker) or thirty (Kubernetes): the shorter one.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Who has no load balancer waits for nothing.
pub const SHUTDOWN_DELAY: Duration = Duration::ZERO;
/// Threads; the largest machines have fewer.
pub const CORES_MAX: u64 = 1_024;
/// Loopback: the admin server asks nobody for a password.
pub const ADMIN: &str = "127.0.0.1:9514";
/// Starts, stops, connections and everything above.
pub const LOG_LEVEL: &str = "info";

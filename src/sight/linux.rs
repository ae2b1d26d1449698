//! Sight on Linux: sockets by inet_diag, the cgroup's files, terminals below `/dev/pts`.

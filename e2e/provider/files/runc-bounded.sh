#!/bin/sh
# An OCI runtime for machines that withhold capabilities.
#
# A container engine asks runc for every capability it knows of, and runc fails
# when the machine does not have one of them ("unable to apply caps").
# This drops from the request what is not in the bounding set, then calls runc.
set -eu

# In the kernel's order: the first is bit 0 of CapBnd.
names="CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER
SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
CHECKPOINT_RESTORE"

# create and run read BUNDLE/config.json, exec reads its --process file.
spec=""
previous=""
for argument in "$@"; do
    case "$previous" in
    --bundle | -b) spec="$argument/config.json" ;;
    --process | -p) spec="$argument" ;;
    esac
    case "$argument" in
    --bundle=*) spec="${argument#--bundle=}/config.json" ;;
    --process=*) spec="${argument#--process=}" ;;
    esac
    previous="$argument"
done

if [ -n "$spec" ] && [ -f "$spec" ]; then
    bounding=$((0x$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)))
    bit=0
    edits=""
    for name in $names; do
        if [ $(((bounding >> bit) & 1)) -eq 0 ]; then
            edits="$edits;s/,\"CAP_$name\"//g;s/\"CAP_$name\",//g;s/\"CAP_$name\"//g"
        fi
        bit=$((bit + 1))
    done
    if [ -n "$edits" ]; then
        sed -i "${edits#;}" "$spec"
    fi
fi

exec runc "$@"

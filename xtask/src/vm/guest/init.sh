#!/bin/sh
# The first process of a guest: a pure cgroup-v2 host with nothing on it. Runs the checks and writes what they left to
# the console, each file gzipped and in base64 between two marks, as soon as it is there. `vm/console.rs` reads that.
export PATH=/bin:/sbin HOME=/root NO_COLOR=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t tracefs trace /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
chmod 755 /
# Nothing of the kernel's amid the results; its own log is read at the end.
echo 1 > /proc/sys/kernel/printk

R=/run/results
mkdir -p $R
cd $R

say() {
    echo "@@ $(cut -d' ' -f1 /proc/uptime) $*"
}

# Writes what is new.
tell() {
    for file in *; do
        [ -f "$file" ] || continue
        echo "@@BEGIN $file"
        gzip -9 < "$file" | base64
        echo "@@END $file"
        rm "$file"
    done
}

# NAME COMMAND…: leaves NAME.out, NAME.err, NAME.rc.
check() {
    name=$1
    shift
    timeout 200 "$@" > $name.out 2> $name.err < /dev/null
    echo $? > $name.rc
    say "$name: $(cat $name.rc)"
    tell
}

# For scripts that make their files themselves.
made() {
    say "$1: $(cat $1.rc 2> /dev/null)"
    tell
}

uname -r > kernel
uname -m > machine
# Of the kernel's command line: `checks=a,b` (all where there is none).
want() {
    [ -z "$checks" ] && return 0
    case ",$checks," in
        *,$1,*) return 0 ;;
    esac
    return 1
}

say "up: $(cat kernel)"
tell
want doctor && check doctor inferscope doctor --json
want tree && { storm tree tree 4 66 2000; made tree; }
want cgroup && { mkdir -p /sys/fs/cgroup/storm/below; storm cgroup cgroup 4 44 2000; made cgroup; }
want exec && {
    # The storm goes at once, as the command runs only when it is observed.
    echo go | timeout 200 inferscope exec --json --gpu off -o exec.json -- forkstorm 2 33 2000 > exec.out 2> exec.err
    echo $? > exec.rc
    made exec
}
want pidns && {
    unshare -p -f --mount-proc storm pidns tree 2 33 2000
    made pidns
}
want proc && { storm proc tree 2 33 2000 --tracker proc; made proc; }
want oom && {
    echo +memory > /sys/fs/cgroup/cgroup.subtree_control
    mkdir /sys/fs/cgroup/oom
    echo 24M > /sys/fs/cgroup/oom/memory.max
    check oom inferscope exec --json --gpu off -- /bin/sh -c \
        '(echo 0 > /sys/fs/cgroup/oom/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs=64M count=1); sleep 0.3; exit 0'
    cp /sys/fs/cgroup/oom/memory.events oom.events
    tell
}
want nobody && {
    sleep 60 &
    sleeper=$!
    check nobody su -s /bin/sh nobody -c "inferscope observe --pid $sleeper --duration 1s --json --gpu off"
    check nobody-ebpf su -s /bin/sh nobody -c \
        "inferscope observe --tracker ebpf --pid $sleeper --duration 1s --json --gpu off"
    kill $sleeper
}
want demo && check demo inferscope demo --json
dmesg > log
tell
say done
sync
poweroff -f

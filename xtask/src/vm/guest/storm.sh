#!/bin/sh
# NAME tree|cgroup PARENTS CHILDREN MICROSECONDS [OPTIONS…]: a storm, observed. Leaves the storm's truth, the report,
# what was said and the exit code, as NAME.truth, .json, .err and .rc in the current folder.
name=$1 kind=$2 parents=$3 children=$4 micros=$5
shift 5
group=
[ $kind = cgroup ] && group=/sys/fs/cgroup/storm
mkfifo /tmp/$name.in /tmp/$name.out
forkstorm $parents $children $micros $group < /tmp/$name.in > /tmp/$name.out 2> $name.storm &
exec 4> /tmp/$name.in 5< /tmp/$name.out
read -r said <&5
root=${said#*:}
root=${root%\}}
target="--pid $root"
[ $kind = cgroup ] && target="--cgroup $group"
inferscope observe $target --json --gpu off "$@" > $name.json 2> $name.err < /dev/null 4>&- 5<&- &
observer=$!
# It observes as soon as the thread of this name is there.
tries=0
until grep -q observer /proc/$observer/task/*/comm 2> /dev/null; do
    kill -0 $observer 2> /dev/null || break
    tries=$((tries + 1))
    [ $tries -gt 600 ] && break
    sleep 0.1
done
echo go >&4
read -r truth <&5
echo "$truth" > $name.truth
# A script's children ignore SIGINT.
kill -TERM $observer
wait $observer
echo $? > $name.rc
exec 4>&- 5<&-
wait

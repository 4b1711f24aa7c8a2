#!/bin/sh
# A role of the tests: writes down what it is told, and waits, hangs or fails where a file says so.
# $1: where all nodes' roles have their files; $2: the VIP; $3: "status", "check" of the node $4, or nothing.
if [ "$3" = check ]; then
    while [ -e "$1/hangs.$4" ]; do sleep 0.02; done
    exit
fi

here="$HAD_NODE.$HAD_ROLE"
promoted="$1/promoted.$here"
step="${HAD_STEP:-told}"

if [ "$3" = status ]; then
    [ ! -e "$1/silent.$here.status" ] || sleep 1000
    [ -e "$promoted" ]
    exit
fi

write() {
    read -r uptime rest </proc/uptime
    if ip -o -4 address show dev eth0 | grep -q " $2/"; then vip=vip; else vip=bare; fi
    echo "$uptime $HAD_NODE $HAD_ROLE $step $3 $vip ${HAD_EPOCH:-0}" >>"$1/diary"
}

held() {
    while [ -e "$1/$2.$here.$step" ]; do sleep 0.02; done
}

write "$1" "$2" begin
held "$1" before
if [ -e "$1/fail.$here.$step" ]; then
    write "$1" "$2" failed
    echo "it was told to fail"
    exit 1
fi
case "$step" in
promote) : >"$promoted" ;;
demote) rm -f "$promoted" ;;
esac
write "$1" "$2" changed
held "$1" after
write "$1" "$2" done

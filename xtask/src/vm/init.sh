#!/bin/busybox sh
# The guest's first process: takes the host's file system as its own, without changing it, and becomes systemd, which
# runs the job. Beside it lie `settings` (RELEASE, DIRECTORIES, MODULES, SYSTEMD), `job` and `units`.

fail() {
  echo "guest: $*" >/dev/kmsg
  exit 1 # The kernel panics, and QEMU ends.
}

busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /host /upper /new
$busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in virtio_pci virtio_console 9pnet_virtio 9p overlay; do
  modprobe "$module" || fail "no module $module"
done
. /settings

# The host's files do not change while tests run, so what was read once is kept.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host || fail "no host"
mount -t tmpfs tmpfs /upper
mkdir /upper/files /upper/work
lower=/host
if [ -n "$SYSTEMD" ]; then
  # Not among the host's files where others look for it, but unpacked somewhere; no layer may lie below another one.
  cp -a "/host$SYSTEMD" /upper/systemd || fail "no $SYSTEMD"
  lower=/upper/systemd:/host
fi
mount -t overlay -o "lowerdir=$lower,upperdir=/upper/files,workdir=/upper/work" overlay /new || fail "no overlay"
for directory in proc sys dev; do
  mount --move "/$directory" "/new/$directory"
done
mount -t bpf bpf /new/sys/fs/bpf
for directory in tmp run dev/shm; do
  mkdir -p "/new/$directory"
  mount -t tmpfs tmpfs "/new/$directory"
done
chmod 1777 /new/tmp
mkdir /new/run/lock # /var/lock leads there.
# The checkout may lie below one of these. What is written there goes with the guest, as everywhere else.
set -f
IFS=:
number=0
for directory in $DIRECTORIES; do
  number=$((number + 1))
  upper="/upper/$number"
  mkdir -p "/new$directory" "$upper/files" "$upper/work"
  mount -t overlay -o "lowerdir=/host$directory,upperdir=$upper/files,workdir=$upper/work" overlay "/new$directory" ||
    fail "no $directory"
done
unset IFS
set +f
# The kernel asks /sbin/modprobe for what it misses; the host's, if any, wants another index.
mkdir -p "/new/lib/modules/$RELEASE"
mount --bind "/host$MODULES" "/new/lib/modules/$RELEASE" || fail "no modules"
cp /bin/busybox /job /new/run/
rm -f /new/sbin/modprobe
ln -s /run/busybox /new/sbin/modprobe
ip link set lo up
hostname guest

# What the host is, the guest need not be.
rm -f /new/.dockerenv

# systemd, with the bus and nothing else of the host's: no generator, no unit but ours and the bus's own.
units=/new/run/guest/units
mkdir -p "$units"
cp /units/* "$units"
for unit in dbus.socket dbus.service; do
  file="/new/usr/lib/systemd/system/$unit"
  [ -e "$file" ] || file="/new/lib/systemd/system/$unit"
  cp "$file" "$units" || fail "no $unit"
done
grep -q ^messagebus: /new/etc/passwd ||
  echo 'messagebus:x:990:65534::/nonexistent:/usr/sbin/nologin' >>/new/etc/passwd
echo 6861640000000000000000000000cafe >/new/etc/machine-id
systemd=/usr/lib/systemd/systemd
[ -e "/new$systemd" ] || systemd=/lib/systemd/systemd
# The last one is for units as packages have them: a mask in /run goes before these.
mkdir -p /new/run/guest/packaged
export SYSTEMD_UNIT_PATH=/run/guest/units:/run/systemd/system:/run/guest/packaged
export SYSTEMD_GENERATOR_PATH=/run/guest/no-generators
export SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/guest/no-generators
exec switch_root /new "$systemd" --unit=guest.target --log-target=kmsg --crash-reboot --crash-shell=no --show-status=no

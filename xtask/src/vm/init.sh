#!/bin/busybox sh
# The guest's first process: takes the host's file system as its own, without changing it, and runs the job.
# Beside it lie `settings` (RELEASE, DIRECTORIES, MODULES) and `job`.

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
mount -t overlay -o lowerdir=/host,upperdir=/upper/files,workdir=/upper/work overlay /new || fail "no overlay"
for directory in proc sys dev; do
  mount --move "/$directory" "/new/$directory"
done
mount -t bpf bpf /new/sys/fs/bpf
for directory in tmp run dev/shm; do
  mkdir -p "/new/$directory"
  mount -t tmpfs tmpfs "/new/$directory"
done
chmod 1777 /new/tmp
# The checkout may lie below one of these.
set -f
IFS=:
for directory in $DIRECTORIES; do
  mkdir -p "/new$directory"
  mount --bind "/host$directory" "/new$directory" || fail "no $directory"
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
exec switch_root /new /bin/sh /run/job

#!/bin/bash
# PID 1 of a namespace of its own: a real systemd with our units and nothing else, for tests.
# usage: boot.sh REPO. The network is the host's; /etc, /run, /tmp and /var/lib are private.
set -e
repo=$1
mount --make-rshared /  # within this namespace, as a booted machine has it
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/units /run/bin /run/etc /run/repo
mount --bind "$repo" /run/repo
cp -a /etc/. /run/etc && mount --bind /run/etc /etc
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for target in sysinit basic network-online time-sync shutdown umount multi-user idle; do
  printf '[Unit]\nDefaultDependencies=no\n' >/run/units/$target.target
done
systemd-sysusers /run/repo/systemd/sysusers.d/skadi.conf
systemd-tmpfiles --create /run/repo/systemd/tmpfiles.d/skadi.conf
cat >/run/bin/skadi <<'EOF'
#!/bin/sh
cd /run/repo && exec .venv/bin/python -c 'from agent.cli import main; main()' "$@"
EOF
chmod 755 /run/bin/skadi
for unit in /run/repo/systemd/*.service; do
  sed 's,/usr/bin/skadi,/run/bin/skadi,' "$unit" >"/run/units/${unit##*/}"
  mkdir -p "/run/units/${unit##*/}.d"
  # There is no journal here.
  printf '[Service]\nStandardOutput=append:/run/log\nStandardError=append:/run/log\n' \
    >"/run/units/${unit##*/}.d/00-log.conf"
done
exec env -i container=other SYSTEMD_UNIT_PATH=/run/units \
  PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=idle.target --show-status=no

package vm

// labTarget is what systemd boots to in the guest: the basic system, D-Bus and wpa_supplicant as Debian starts them, and
// nothing else that the host happens to have enabled.
const labTarget = `[Unit]
Description=Lab of nigh
Requires=basic.target
Wants=dbus.service wpa_supplicant.service nigh-lab.service
After=basic.target
AllowIsolate=yes
`

// labService runs the agent that takes commands from the host.
const labService = `[Unit]
Description=Agent of the lab
Requires=basic.target
After=basic.target dbus.service wpa_supplicant.service

[Service]
ExecStart=/bin/sh /run/lab/agent.sh
Environment=HOME=/root TERM=linux PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
StandardOutput=journal
TasksMax=infinity
LimitCORE=0
`

// Package systemd holds the files that fit nigh into a Linux system, and the tests that
// hold them to what they promise. Its code hands the text of some of them to nigh doctor, and
// runs the install script for nigh service ([Install], [Remove], [Status]).
//
//   - nigh@.service runs the agent as one user of the machine, in a sandbox.
//   - nigh-wifi.service and the script nigh-wifi give idle radios to wpa_supplicant where
//     NetworkManager does not.
//   - nigh.sysusers makes the group that nigh.dbus.conf allows Wi-Fi Direct calls.
//   - nigh.networkmanager.conf, 10-nigh-p2p.network and 10-nigh-p2p.link keep other
//     programs from the interfaces of groups.
//   - nigh.firewalld-service.xml and nigh.ufw name nigh's ports to firewalls.
//   - nigh.firewalld-zone.xml and zz-nigh.dbus.conf are choices for the administrator:
//     they are copied beside the program and put into force by nobody else. The second is
//     what nigh doctor --fix networkmanager installs, after it has asked.
//   - nigh.user.service runs the agent for a user without rights on the machine.
//   - install puts all of them in place (make install) and takes them away. Packages have what it
//     puts in place (lab/cmd/release).
//   - steps is what it takes beside copying files: install reads it, and the scripts of packages
//     are made of it.
//   - lintian-overrides is what the .deb has to say to lintian.
//
// # A home that is not /home/USER
//
// The unit shows the agent /home/USER and no other home; systemd cannot look a user's home
// up. For another one, [Install] writes a drop-in; by hand it is systemctl edit nigh@USER with
// these lines:
//
//	[Service]
//	BindPaths=/root
//
// or, where the home is outside /home, /root and /run/user, ReadWritePaths= and its path.
// The same lines open a folder elsewhere for received files.
//
// The reasons and measurements are those of systemd.exec(5) and dbus-daemon(1).
package systemd

package systemd

import _ "embed"

// KeepPolicy is zz-nigh.dbus.conf, the D-Bus policy that keeps NetworkManager from removing groups, for programs that
// install it where nothing but the program is at hand.
//
//go:embed zz-nigh.dbus.conf
var KeepPolicy string

// The files that nigh doctor --fix installs where the package that has them is not installed, or another one removed them.
var (
	//go:embed nigh.dbus.conf
	Policy string // lets the group nigh make Wi-Fi Direct calls
	//go:embed nigh.networkmanager.conf
	NetworkManager string // the links of groups are not NetworkManager's
	//go:embed 10-nigh-p2p.network
	Networkd string // the links of groups are not systemd-networkd's
	//go:embed nigh.firewalld-service.xml
	FirewalldService string // nigh's ports
	//go:embed nigh.ufw
	Ufw string // nigh's ports
)

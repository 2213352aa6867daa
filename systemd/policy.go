package systemd

import _ "embed"

// KeepPolicy is zz-nigh.dbus.conf, the D-Bus policy that keeps NetworkManager from removing groups, for programs that
// install it where nothing but the program is at hand.
//
//go:embed zz-nigh.dbus.conf
var KeepPolicy string

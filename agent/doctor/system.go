package doctor

import (
	"context"
	"fmt"
	"os"
	"os/user"

	"github.com/godbus/dbus/v5"
)

const (
	systemdName    = "org.freedesktop.systemd1"
	systemdPath    = "/org/freedesktop/systemd1"
	systemdUnit    = systemdName + ".Unit"
	systemdService = systemdName + ".Service"
)

// owner is the user whose agent this is about: the one who called sudo, for root.
func owner() string {
	if name := os.Getenv("SUDO_USER"); name != "" && os.Geteuid() == 0 {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Geteuid())
}

// restarts asks systemd how the agent's service fares. Without systemd, or when the service was not started, there is nothing
// to say.
func restarts(ctx context.Context, c Config) []Check {
	conn, err := connect(ctx, c.Bus)
	if err != nil {
		return nil
	}
	defer conn.Close()
	on := false
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, systemdName).Store(&on); err != nil || !on {
		return nil
	}
	unit := "nigh@" + owner() + ".service"
	var path dbus.ObjectPath
	if err := conn.Object(systemdName, systemdPath).CallWithContext(ctx, systemdName+".Manager.GetUnit", 0, unit).Store(&path); err != nil {
		return nil // not loaded
	}
	get := func(iface, name string) any {
		var v dbus.Variant
		if err := conn.Object(systemdName, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name).Store(&v); err != nil {
			return nil
		}
		return v.Value()
	}
	active, _ := get(systemdUnit, "ActiveState").(string)
	result, _ := get(systemdService, "Result").(string)
	count, _ := get(systemdService, "NRestarts").(uint32)
	look := "See why: journalctl -u " + unit + " -p warning -n 50"
	switch {
	case active == "failed":
		return []Check{{"restarts", Warn, fmt.Sprintf("The service %s failed (%s) and systemd does not start it any more.", unit, plain(result)), look}}
	case count > 0:
		return []Check{{"restarts", Warn, fmt.Sprintf("systemd started the service %s again %d times because it had ended or hung (%s).", unit, count, plain(result)), look}}
	}
	return []Check{{"restarts", OK, "systemd never had to start the service " + unit + " again.", ""}}
}

// plain leaves of another program's word what can be shown.
func plain(word string) string {
	if word == "" {
		return "no reason given"
	}
	return shown(word)
}

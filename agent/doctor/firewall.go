package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"nigh/link"
)

const (
	firewalldName = "org.fedoraproject.FirewallD1"
	firewalldZone = firewalldName + ".zone"
	firewalldPath = "/org/fedoraproject/FirewallD1"
)

// firewallID is the check of package link that sees only whether a firewall is on. Where more can be known it is replaced.
const firewallID = "link_firewall"

func firewall(ctx context.Context, c Config, links []link.Link) []Check {
	if check, on := firewalld(ctx, c, links); on {
		return []Check{check}
	}
	return nil
}

// firewalld asks it over D-Bus, as any user may, whether it lets the sessions through on the links that are used. The result
// on is false when it does not run. Rules that somebody wrote by hand are not seen.
func firewalld(ctx context.Context, c Config, links []link.Link) (check Check, on bool) {
	conn, err := connect(ctx, c.Bus)
	if err != nil {
		return check, false // no bus, no firewalld
	}
	defer conn.Close()
	// It could be started by a call, so the bus is asked first.
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, firewalldName).Store(&on); err != nil || !on {
		return check, false
	}
	object := conn.Object(firewalldName, firewalldPath)
	call := func(value any, method string, args ...any) error {
		return object.CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...).Store(value)
	}
	unknown := func(err error) (Check, bool) {
		return Check{firewallID, Warn, fmt.Sprintf("firewalld is on, and does not say whether it lets nigh through: %v.", err),
			"firewall-cmd --permanent --add-service=nigh && firewall-cmd --reload"}, true
	}
	var usual string
	if err := call(&usual, firewalldName+".getDefaultZone"); err != nil {
		return unknown(err)
	}
	for _, l := range links {
		var zone string
		if err := call(&zone, firewalldZone+".getZoneOfInterface", l.Name); err != nil || zone == "" {
			zone = usual
		}
		var services []string
		if err := call(&services, firewalldZone+".getServices", zone); err != nil {
			return unknown(err)
		}
		var ports [][]string
		if err := call(&ports, firewalldZone+".getPorts", zone); err != nil {
			return unknown(err)
		}
		if !lets(zone, services, ports, int(c.Port)) {
			return Check{firewallID, Warn, fmt.Sprintf("firewalld blocks nigh on %s (zone %s): other devices cannot begin a connection.", l.Name, zone),
				"firewall-cmd --permanent --zone=" + zone + " --add-service=nigh && firewall-cmd --reload"}, true
		}
	}
	return Check{firewallID, OK, "firewalld lets nigh through on the links in use.", ""}, true
}

// lets tells whether a zone lets TCP connections to our port in.
func lets(zone string, services []string, ports [][]string, port int) bool {
	if zone == "trusted" {
		return true
	}
	for _, s := range services {
		if s == "nigh" {
			return true
		}
	}
	for _, p := range ports {
		if len(p) != 2 || p[1] != "tcp" {
			continue
		}
		first, last, isRange := strings.Cut(p[0], "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.Atoi(first)
		high, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && low <= port && port <= high {
			return true
		}
	}
	return false
}

func connect(ctx context.Context, address string) (*dbus.Conn, error) {
	if address == "" {
		return dbus.ConnectSystemBus(dbus.WithContext(ctx))
	}
	return dbus.Connect(address, dbus.WithContext(ctx))
}

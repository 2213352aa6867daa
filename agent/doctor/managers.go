package doctor

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"nigh/link"
)

const (
	nmName = "org.freedesktop.NetworkManager"
	nmPath = "/org/freedesktop/NetworkManager"

	procMax = 1 << 16 // processes looked at
)

// managers looks for programs that take the links of Wi-Fi Direct groups for theirs: they flush our addresses and run DHCP
// clients of their own there.
func managers(ctx context.Context, c Config, links []link.Link) []Check {
	check := func(cause, fix string) []Check { return []Check{{"manager-conflict", Warn, cause, fix}} }
	groups := slices.DeleteFunc(slices.Clone(links), func(l link.Link) bool { return l.Kind != link.Direct })
	for _, l := range groups {
		if managedByNetworkManager(ctx, c, l.Name) {
			return check("NetworkManager manages "+l.Name+", the link of a Wi-Fi Direct group.", "sudo nigh doctor --fix networkmanager-groups")
		}
		state := shellValue(readFile(filepath.Join(c.run, "systemd/netif/links", strconv.Itoa(l.Index))), "ADMIN_STATE")
		if state != "" && state != "unmanaged" && state != "pending" && state != "linger" {
			return check(fmt.Sprintf("systemd-networkd manages %s, the link of a Wi-Fi Direct group (%s).", l.Name, plain(state)), "sudo nigh doctor --fix networkd")
		}
	}
	phys, _ := os.ReadDir(filepath.Join(c.sys, "class/ieee80211"))
	if len(phys)+len(groups) > 0 && c.runs("dhcpcd") && !dhcpcdKeepsOff(readFile(filepath.Join(c.etc, "dhcpcd.conf"))) {
		return check("dhcpcd runs, and takes the links of Wi-Fi Direct groups for its own.", "sudo nigh doctor --fix dhcpcd")
	}
	return []Check{{"manager-conflict", OK, "No other program manages the links of Wi-Fi Direct groups.", ""}}
}

func managedByNetworkManager(ctx context.Context, c Config, ifname string) bool {
	conn, err := connect(ctx, c.Bus)
	if err != nil {
		return false
	}
	defer conn.Close()
	var device dbus.ObjectPath
	if err := conn.Object(nmName, nmPath).CallWithContext(ctx, nmName+".GetDeviceByIpIface", dbus.FlagNoAutoStart, ifname).Store(&device); err != nil {
		return false // it does not run, or does not know the link
	}
	var managed dbus.Variant
	err = conn.Object(nmName, device).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, nmName+".Device", "Managed").Store(&managed)
	on, _ := managed.Value().(bool)
	return err == nil && on
}

// runs reports whether a program runs. The service's own sandbox hides other users' processes, but not the control groups.
func (c Config) runs(program string) bool {
	if _, err := os.Stat(filepath.Join(c.sys, "fs/cgroup/system.slice", program+".service")); err == nil {
		return true
	}
	dir, err := os.Open(c.proc)
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(procMax)
	return slices.ContainsFunc(names, func(name string) bool {
		if _, err := strconv.Atoi(name); err != nil {
			return false
		}
		return strings.TrimSpace(readFile(filepath.Join(c.proc, name, "comm"))) == program
	})
}

// dhcpcdKeepsOff reads dhcpcd.conf(5): whether the interface of a group would be denied, or not among those allowed.
func dhcpcdKeepsOff(conf string) bool {
	const group = "p2p-wlan0-0"
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, group); return ok })
	}
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if f[0] == "interface" {
			break // what follows is about that one
		}
		if f[0] == "denyinterfaces" && matches(f[1:]) || f[0] == "allowinterfaces" && !matches(f[1:]) {
			return true
		}
	}
	return false
}

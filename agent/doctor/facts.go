package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nigh/link"
)

const (
	maxKernelLog   = 1 << 20
	maxKernelLines = 60
)

// facts says what the machine is: what it takes to know why a radio or a link does not work, and nothing of its user.
func facts(ctx context.Context, c Config) string {
	var b strings.Builder
	line := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" {
			fmt.Fprintf(&b, "%-16s %s\n", name, value)
		}
	}
	line("go", runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		line("kernel", unix.ByteSliceToString(u.Release[:])+" "+unix.ByteSliceToString(u.Version[:])+" "+unix.ByteSliceToString(u.Machine[:]))
	}
	line("system", shellValue(readFile(filepath.Join(c.etc, "os-release")), "PRETTY_NAME"))
	line("machine", machine(c))
	line("wpa_supplicant", supplicantVersion(ctx))
	for _, name := range []string{"NetworkManager", "systemd-networkd", "dhcpcd", "connmand", "iwd", "firewalld", "avahi-daemon", "systemd-resolved", "dnsmasq"} {
		if c.runs(name) {
			line("runs", name)
		}
	}
	line("ufw", map[bool]string{true: "enabled", false: "not enabled"}[ufwOn(c.etc)])
	line("capabilities", shellColon(readFile(filepath.Join(c.proc, "self/status")), "CapEff"))
	return b.String()
}

// machine names the model, not the one machine: no serial number.
func machine(c Config) string {
	if model := readFile(filepath.Join(c.proc, "device-tree/model")); model != "" {
		return shown(strings.TrimRight(model, "\x00"))
	}
	dmi := filepath.Join(c.sys, "class/dmi/id")
	return strings.TrimSpace(strings.TrimSpace(readFile(filepath.Join(dmi, "sys_vendor"))) + " " + strings.TrimSpace(readFile(filepath.Join(dmi, "product_name"))))
}

// shellColon reads "Key:\tvalue" lines of files below /proc.
func shellColon(text, key string) string {
	for l := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(l, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// interfaces lists the links with the chip behind each.
func interfaces(c Config, networks readLinks) string {
	var b strings.Builder
	if networks.err != nil {
		fmt.Fprintf(&b, "cannot be read: %v\n", networks.err)
	}
	for _, l := range networks.links {
		if l.Kind == link.Loopback {
			continue
		}
		driver, version := link.Driver(l.Name)
		chip := strings.TrimSpace(readFile(filepath.Join(c.sys, "class/net", l.Name, "device/modalias")))
		fmt.Fprintf(&b, "%s %s up=%t mtu=%d driver=%s version=%q chip=%s", l.Name, l.Kind, l.Up, l.MTU, driver, version, chip)
		for _, p := range l.Prefixes {
			b.WriteString(" " + p.String())
		}
		if l.Why != "" {
			fmt.Fprintf(&b, " (not used: %s)", l.Why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// radioModules begin the names of kernel modules that matter here.
var radioModules = []string{"cfg80211", "mac80211", "brcm", "b43", "iwl", "ath", "mt7", "rt", "rtw", "88", "8821", "mwifiex", "wl", "nf_tables", "ip_tables", "tun", "wireguard", "veth", "bridge"}

// modules lists those of /proc/modules that matter.
func modules(proc string) string {
	var names []string
	for l := range strings.Lines(proc) {
		name, _, _ := strings.Cut(l, " ")
		name = strings.TrimSpace(name)
		if name != "" && len(names) < procMax && slices.ContainsFunc(radioModules, func(p string) bool { return strings.HasPrefix(name, p) }) {
			names = append(names, shown(name))
		}
	}
	return strings.Join(names, " ") + "\n"
}

// radioWords stand in lines of the kernel's log that matter here.
var radioWords = []string{"wlan", "80211", "brcm", "iwlwifi", "rfkill", "p2p", "firmware", "ath9k", "ath10k", "ath11k", "mt76", "mt79", "rtw8"}

// kernelLog takes out of the kernel's log what is about radios. Where only root may read it, it says so.
func kernelLog() string {
	buf := make([]byte, maxKernelLog)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return "cannot be read by this user: " + err.Error() + "\n"
	}
	return radioLines(string(buf[:n]))
}

// radioLines keeps the last lines that matter.
func radioLines(log string) string {
	var out []string
	for l := range strings.Lines(log) {
		l = strings.TrimRight(l, "\n")
		lower := strings.ToLower(l)
		if slices.ContainsFunc(radioWords, func(w string) bool { return strings.Contains(lower, w) }) {
			if _, rest, ok := strings.Cut(l, ">"); ok && strings.HasPrefix(l, "<") {
				l = rest // its priority
			}
			out = append(out, l)
		}
	}
	return strings.Join(out[max(0, len(out)-maxKernelLines):], "\n") + "\n"
}

// names are those of this machine and its user, which a report must not tell.
func (m *Mask) names() {
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		m.Hide("host", host)
		if first, _, ok := strings.Cut(host, "."); ok {
			m.Hide("host", first)
		}
	}
	for _, key := range []string{"USER", "LOGNAME", "SUDO_USER"} {
		if name := os.Getenv(key); name != "" && name != "root" {
			m.Hide("user", name)
		}
	}
	if name := owner(); name != "root" {
		m.Hide("user", name)
	}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		m.Hide("home", home)
	}
}

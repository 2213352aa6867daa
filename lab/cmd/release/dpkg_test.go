package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// smallSystem is a Debian without systemd and D-Bus, with next to no program but those of busybox.
func smallSystem(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: dpkg runs scripts in another root")
	}
	needs(t, "busybox", "busybox-static")
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n", "etc/group": "root:x:0:\nana:x:1000:\n",
		"etc/group-": "", "etc/.pwd.lock": "",
		"var/lib/dpkg/status": "", "var/lib/dpkg/info/format": "1\n", "var/lib/dpkg/updates/.keep": "", "var/lib/dpkg/triggers/File": "",
		"dev/null": "", "run/.keep": "", "usr/bin/.keep": "", "etc/systemd/system/multi-user.target.wants/.keep": "",
		// What is the people's.
		"home/ana/.local/state/nigh/key.pem": "key", "home/ana/Downloads/nigh/film": "film", "etc/nigh/policy.toml": "direct = false\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command(t, nil, "install", "-D", "/bin/busybox", filepath.Join(root, "bin/busybox"))
	command(t, nil, "chroot", root, "/bin/busybox", "--install", "-s", "/bin")
	// What every Debian has, and busybox has not.
	for _, program := range []string{"/usr/sbin/groupadd", "/usr/sbin/groupdel", "/usr/bin/getent"} {
		for _, word := range append(strings.Fields(command(t, nil, "ldd", program)), program) {
			if strings.HasPrefix(word, "/") {
				command(t, nil, "install", "-D", word, filepath.Join(root, word))
			}
		}
	}
	return root
}

// everything lists a system but for dpkg's own records and what it puts into a folder to begin with.
func everything(t *testing.T, root string) []string {
	t.Helper()
	list := strings.Split(command(t, nil, "find", root, "-path", root+"/var/lib/dpkg", "-prune", "-o", "-path", root+"/var/log", "-prune", "-o", "-printf", "%y %P %l\n"), "\n")
	slices.Sort(list)
	return list
}

func dpkgIn(t *testing.T, root string) func(args ...string) {
	return func(args ...string) {
		t.Helper()
		command(t, []string{"DEBIAN_FRONTEND=noninteractive"}, "dpkg", append([]string{"--root=" + root, "--log=/dev/null"}, args...)...)
	}
}

// A machine has the package, a later one, none, and no trace of it; its people keep what is theirs. Without systemd, D-Bus and
// any other program that is told of new files the scripts of the package do what is left to do.
func TestInstallUpgradePurge(t *testing.T) {
	root := smallSystem(t)
	dpkg := dpkgIn(t, root)
	version := func() string {
		t.Helper()
		return command(t, nil, "chroot", root, "/usr/bin/nigh", "version")
	}
	before := everything(t, root)

	dpkg("--install", path(t, ".deb"))
	if said := version(); !strings.Contains(said, "1.2.3") {
		t.Errorf("version: %s", said)
	}
	if group := text(t, filepath.Join(root, "etc/group")); !strings.Contains(group, "\nnigh:") {
		t.Errorf("no group nigh:\n%s", group)
	}
	// An administrator's choices: an agent at boot, and a firewall's profile of his own.
	wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants/nigh@ana.service")
	profile := filepath.Join(root, "etc/ufw/applications.d/nigh")
	if err := os.Symlink("/usr/lib/systemd/system/nigh@.service", wants); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(profile, []byte("[Nigh]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dpkg("--force-confold", "--install", upgrade(t))
	if said := version(); !strings.Contains(said, "1.2.4") {
		t.Errorf("version: %s", said)
	}
	for name, want := range map[string]string{"home/ana/.local/state/nigh/key.pem": "key", "etc/ufw/applications.d/nigh": "[Nigh]\n"} {
		if got := text(t, filepath.Join(root, name)); got != want {
			t.Errorf("after the upgrade %s is %q", name, got)
		}
	}
	dpkg("--remove", "nigh")
	if _, err := os.Lstat(wants); err != nil {
		t.Errorf("what is removed and not purged forgets what starts at boot: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(root, "usr/bin/nigh")); err == nil {
		t.Error("the program is still there")
	}
	for _, name := range []string{"run/nigh/ana", "run/nigh-wifi"} { // of agents that ran
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(root, "run/nigh/ana")); err != nil { // as systemd does
		t.Fatal(err)
	}
	dpkg("--purge", "nigh")
	if difference := cmp.Diff(before, everything(t, root)); difference != "" {
		t.Errorf("purge leaves, or takes away, what was not nigh's (-before +after):\n%s", difference)
	}
	if group := text(t, filepath.Join(root, "etc/group")); group != "root:x:0:\nana:x:1000:\n" {
		t.Errorf("groups after purge:\n%s", group)
	}
}

// teller stands for a program that reads files of nigh's: it writes down how it was called. What it is told to fail at fails.
const teller = "#!/bin/sh\necho \"${0##*/} $*\" >>/told\ncase \"${0##*/} $*\" in 'systemctl reload dbus' | *'try-restart'*) exit 1 ;; esac\n"

// Where systemd runs, programs are told of the new files in the order in which they need them, and agents go over to a new
// program; that one of the programs fails stops nothing. What nigh doctor --fix has changed is taken back when nigh goes.
func TestScriptsTell(t *testing.T) {
	root := smallSystem(t)
	for _, name := range []string{"systemd-sysusers", "systemctl", "nmcli", "networkctl", "udevadm", "firewall-cmd"} {
		if err := os.WriteFile(filepath.Join(root, "usr/bin", name), []byte(teller), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	before, dpkg := everything(t, root), dpkgIn(t, root)
	told := func() string {
		t.Helper()
		said := text(t, filepath.Join(root, "told"))
		if err := os.Remove(filepath.Join(root, "told")); err != nil {
			t.Fatal(err)
		}
		return said
	}
	const (
		group = "systemd-sysusers /usr/lib/sysusers.d/nigh.conf\n"
		tell  = "systemctl daemon-reload\nsystemctl -q is-active dbus\nsystemctl reload dbus\n" +
			"systemctl -q is-active NetworkManager\nnmcli general reload conf\nsystemctl -q is-active systemd-networkd\nnetworkctl reload\n" +
			"systemctl -q is-active systemd-udevd\nudevadm control --reload\nsystemctl -q is-active firewalld\nfirewall-cmd -q --reload\n"
		stop = "systemctl -q stop nigh@*.service nigh-wifi.service\n"
	)
	dpkg("--install", path(t, ".deb"))
	if want, got := group+tell+"systemctl -q enable nigh-wifi.service\n", told(); got != want {
		t.Errorf("install: %s", cmp.Diff(want, got))
	}
	dpkg("--install", upgrade(t))
	if want, got := group+tell+"systemctl try-restart nigh@*.service\n", told(); got != want {
		t.Errorf("upgrade: %s", cmp.Diff(want, got))
	}
	const fixed = "etc/systemd/network/10-nigh-p2p.network"
	command(t, nil, "chroot", root, "/usr/bin/nigh", "doctor", "--fix", "networkd", "--yes")
	if _, err := os.Stat(filepath.Join(root, fixed)); err != nil {
		t.Fatal(err)
	}
	told()
	dpkg("--remove", "nigh")
	if want, got := stop+"networkctl reload\n"+tell, told(); got != want {
		t.Errorf("remove: %s", cmp.Diff(want, got))
	}
	if _, err := os.Stat(filepath.Join(root, fixed)); err == nil {
		t.Error("what nigh doctor has changed stays changed")
	}
	dpkg("--purge", "nigh")
	told()
	if difference := cmp.Diff(before, everything(t, root)); difference != "" {
		t.Errorf("purge leaves, or takes away, what was not nigh's (-before +after):\n%s", difference)
	}
}

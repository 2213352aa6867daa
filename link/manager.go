package link

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stateMax bounds what is read of another program's state file.
const stateMax = 1 << 16

// manager returns the name of the program that configures a link, "" when none is known to. It looks at what these programs
// leave under run, /run on a real machine, for others to see; what it cannot make sense of counts as theirs.
func manager(run string, index int, ifname string) string {
	number := strconv.Itoa(index)
	if exists(run, "NetworkManager/devices") {
		state, err := values(filepath.Join(run, "NetworkManager/devices", number))
		if err != nil || state["managed"] != "false" {
			return "NetworkManager"
		}
	}
	if state, err := values(filepath.Join(run, "systemd/netif/links", number)); !errors.Is(err, fs.ErrNotExist) && state["ADMIN_STATE"] != "unmanaged" {
		return "systemd-networkd"
	}
	for _, name := range []string{"dhcpcd.pid", "dhcpcd/pid", "dhcpcd-" + ifname + ".pid", "dhcpcd/" + ifname + ".pid"} {
		if exists(run, name) {
			return "dhcpcd"
		}
	}
	if exists(run, "connman") {
		return "ConnMan"
	}
	if state, err := values(filepath.Join(run, "network/ifstate")); err == nil {
		if _, ok := state[ifname]; ok {
			return "ifupdown"
		}
	}
	return ""
}

func exists(run, name string) bool {
	_, err := os.Stat(filepath.Join(run, name))
	return err == nil
}

// values reads lines of the form KEY=VALUE; others are skipped.
func values(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseValues(f)
}

func parseValues(r io.Reader) (map[string]string, error) {
	out := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(r, stateMax))
	for lines.Scan() {
		if key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "="); ok {
			out[key] = value
		}
	}
	return out, lines.Err()
}

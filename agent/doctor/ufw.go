package doctor

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"nigh/link"
)

// maxFile bounds files of other programs that are read.
const maxFile = 1 << 20

// readFile reads a file below the bound; "" when there is none or it may not be read.
func readFile(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ""
	}
	return string(raw)
}

// ufwOn reads ufw's switch, which everybody may.
func ufwOn(etc string) bool {
	return strings.EqualFold(shellValue(readFile(filepath.Join(etc, "ufw/ufw.conf")), "ENABLED"), "yes")
}

// shellValue reads KEY=value lines, such as those of os-release(5) and /etc/default.
func shellValue(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && k == key {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// ufwBarrier tells whether ufw keeps sessions out: by the rules in force, else by its files, which only root may read.
func ufwBarrier(c Config, rules *ruleset, l link.Link) *barrier {
	if !ufwOn(c.etc) {
		return nil
	}
	fix := "sudo ufw allow Nigh"
	if _, err := os.Stat(filepath.Join(c.etc, "ufw/applications.d/nigh")); err != nil || c.Port != defaultPort {
		fix = fmt.Sprintf("sudo ufw allow %d/tcp", c.Port)
	}
	b := &barrier{name: "ufw", fix: fix}
	f := anything
	if rules != nil {
		sessions, _ := arrivals(l, c.Port)
		f, _ = rules.verdict(sessions)
	} else if text := readFile(filepath.Join(c.etc, "ufw/user.rules")); text != "" {
		f = ufwRules(text, readFile(filepath.Join(c.etc, "default/ufw")), l.Name, int(c.Port))
	}
	switch {
	case f.open():
		return nil
	case f.closed():
		b.sure = true
	}
	return b
}

// ufwRules gives what the rules in /etc/ufw/user.rules and the policy in /etc/default/ufw make of a connection. A rule is in a
// comment there: ### tuple ### allow tcp 7421 0.0.0.0/0 any 0.0.0.0/0 Nigh - in
func ufwRules(user, policy, ifname string, port int) fate {
	for line := range strings.Lines(user) {
		tuple, ok := strings.CutPrefix(strings.TrimSpace(line), "### tuple ###")
		if !ok {
			continue
		}
		f := strings.Fields(tuple)
		if len(f) < 7 {
			continue
		}
		direction, on, _ := strings.Cut(f[len(f)-1], "_")
		if direction != "in" || on != "" && on != ifname || f[1] != "tcp" && f[1] != "any" || !hasPort(f[2], port) {
			continue
		}
		if f[3] != "0.0.0.0/0" || f[4] != "any" || f[5] != "0.0.0.0/0" {
			return anything // for some devices only
		}
		switch action, _, _ := strings.Cut(f[0], "_"); action { // "allow_log"
		case "allow", "limit":
			return accepted
		case "reject":
			return rejected
		case "deny":
			return dropped
		}
	}
	switch shellValue(policy, "DEFAULT_INPUT_POLICY") {
	case "ACCEPT":
		return accepted
	case "DROP":
		return dropped
	case "REJECT":
		return rejected
	}
	return anything
}

// hasPort reads ufw's "any", "80,443" and "6000:6007".
func hasPort(list string, port int) bool {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		low, err1 := strconv.Atoi(first)
		high, err2 := strconv.Atoi(last)
		if part == "any" || err1 == nil && err2 == nil && low <= port && port <= high {
			return true
		}
	}
	return false
}

package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// TestFixesMendWhatDoctorFinds has `nigh doctor --fix` make real changes with the real programs, and take them back.
func TestFixesMendWhatDoctorFinds(t *testing.T) {
	lab.NeedRoot(t)
	for _, program := range []string{"nft", "ufw", "sysctl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the program %s (make test installs it)", program)
		}
	}
	for _, tt := range []struct {
		fix, check string
		before     func(m *machine)
		shows      []string // before it is done
	}{
		{"ufw", "firewall", func(m *machine) {
			m.copyEtc("ufw")
			m.script += "[ -e " + m.dir + "/set ] || { ufw --force reset; ufw --force enable; touch " + m.dir + "/set; }\n"
		}, []string{"It writes /etc/ufw/applications.d/nigh:", "  | ports=7421/tcp", "  # ufw allow Nigh"}},
		{"nftables", "firewall", func(m *machine) {
			m.load("table inet filter { chain input { type filter hook input priority 0; policy drop;\n ct state established,related accept\n iif lo accept\n }\n}\n")
		}, []string{"  # nft 'insert rule inet filter input meta l4proto { tcp, udp } th dport { 7421, 5353 } accept comment \"nigh\"'"}},
		{"ipv6", "ipv6-off", func(m *machine) {
			m.copyEtc("sysctl.d")
			m.host.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
		}, []string{"It writes /etc/sysctl.d/99-nigh.conf:", "  # sysctl -p /etc/sysctl.d/99-nigh.conf"}},
	} {
		t.Run(tt.fix, func(t *testing.T) {
			m := &machine{t: t, net: lab.NewNet(t), dir: t.TempDir()}
			m.host = m.net.Host("ada")
			m.net.Bridge("lan").Join(m.host, "eth0", "10.0.0.1/24")
			m.startBus("")
			// The journal of changes is this machine's own, too.
			lib := filepath.Join(m.dir, "lib")
			if err := os.Mkdir(lib, 0o755); err != nil {
				t.Fatal(err)
			}
			m.script += "mount --bind " + lib + " /var/lib\n"
			tt.before(m)
			bin, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			m.agent = &node.Agent{Config: node.Config{Binary: bin, Dir: m.dir, Name: "ada", Command: m.command}, Socket: filepath.Join(m.dir, "run/agent.sock")}
			state := func() string {
				t.Helper()
				out, errs, _ := m.agent.Run(within(t, time.Minute), "doctor", "--json")
				var checks []control.Check
				if err := json.NewDecoder(strings.NewReader(out)).Decode(&checks); err != nil {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				i := slices.IndexFunc(checks, func(c control.Check) bool { return c.ID == tt.check })
				if i < 0 {
					t.Fatalf("no check %s: %s", tt.check, out)
				}
				if checks[i].State == "warn" && !strings.Contains(checks[i].Fix, tt.fix) {
					t.Errorf("the check names another remedy: %+v", checks[i])
				}
				return checks[i].State
			}
			do := func(arg ...string) string {
				t.Helper()
				out, errs, code := m.agent.Run(within(t, time.Minute), append([]string{"doctor", "--fix", tt.fix}, arg...)...)
				if code != 0 {
					t.Fatalf("exit %d: %s%s", code, out, errs)
				}
				return out
			}
			if s := state(); s != "warn" {
				t.Fatalf("before: %s", s)
			}
			out := do("--yes")
			for _, line := range tt.shows {
				if !strings.Contains(out, line+"\n") {
					t.Errorf("it does not show %q:\n%s", line, out)
				}
			}
			if s := state(); s != "ok" {
				t.Errorf("after: %s\n%s", s, out)
			}
			if out := do("--yes"); !strings.Contains(out, "in force already") {
				t.Errorf("again: %s", out)
			}
			out = do("--undo", "--yes")
			if s := state(); s != "warn" {
				t.Errorf("taken back: %s\n%s", s, out)
			}
			if left, err := filepath.Glob(filepath.Join(lib, "nigh/*")); err != nil || len(left) != 0 {
				t.Errorf("the journal is left: %v, %v", left, err)
			}
		})
	}
}

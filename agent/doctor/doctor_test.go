package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/lab"
	"nigh/link"
)

// insideVariable makes this test binary print the result of Run and end: how a whole process looks at a namespace.
const insideVariable = "NIGH_DOCTOR_TEST_INSIDE"

func TestMain(m *testing.M) {
	if text := os.Getenv(insideVariable); text != "" {
		var c Config
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(Run(context.Background(), c)); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// examine runs Run in a process of its own on a host of the bed, with no bus to speak to.
func examine(t *testing.T, h *lab.Host, c Config) []Check {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.Bus = "unix:path=" + filepath.Join(t.TempDir(), "no-bus")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), self)
	cmd.Env = append(os.Environ(), insideVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var checks []Check
	if err := json.Unmarshal(out, &checks); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range checks {
		t.Logf("%-4s %s: %s %s", c.State, c.ID, c.Cause, c.Fix)
		if !slices.Contains(IDs, c.ID) {
			t.Errorf("the check %s is not in the list", c.ID)
		}
		if c.ID == "" || c.Cause == "" || !slices.Contains([]State{OK, Warn, Fail}, c.State) {
			t.Errorf("incomplete check %+v", c)
		}
	}
	return checks
}

func find(t *testing.T, checks []Check, id string) Check {
	t.Helper()
	i := slices.IndexFunc(checks, func(c Check) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("no check %s in %+v", id, checks)
	}
	return checks[i]
}

func TestMachineWithNothingFails(t *testing.T) {
	bed := lab.NewNet(t)
	checks := examine(t, bed.Host("alone"), Config{})
	c := find(t, checks, "usable")
	if c.State != Fail || c.Fix == "" || !strings.Contains(c.Cause, "Wi-Fi Direct does not work") || !strings.Contains(c.Cause, "No network link") {
		t.Errorf("%+v", c)
	}
}

func TestMachineWithoutRadioNamesWhatWorks(t *testing.T) {
	bed := lab.NewNet(t)
	h := bed.Host("wired")
	bed.Bridge("lan").Join(h, "eth7", "10.9.8.7/24")
	home := t.TempDir()
	checks := examine(t, h, Config{State: filepath.Join(home, "state"), Inbox: filepath.Join(home, "Downloads/nigh")})
	c := find(t, checks, "usable")
	if c.State != OK || !strings.Contains(c.Cause, "eth7") || !strings.Contains(c.Cause, "Wi-Fi Direct does not work") {
		t.Errorf("%+v", c)
	}
	for _, c := range checks {
		if c.State == Fail {
			t.Errorf("something works, yet %+v", c)
		}
	}
	for _, id := range []string{"state", "inbox", "clock", "links", "mdns", "firewall", "subnet", "caps", "ipv6-off", "foreign-dhcp", "group-link", "manager-conflict"} {
		if c := find(t, checks, id); c.State != OK {
			t.Errorf("%+v", c)
		}
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 0 {
		t.Errorf("it has made %v, %v", left, err)
	}
}

func TestUsable(t *testing.T) {
	eth := link.Link{Name: "eth0", Kind: link.Ethernet, Usable: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}
	docker := link.Link{Name: "docker0", Kind: link.Bridge, Why: "a container bridge"}
	noCard := []Check{{"wifi-hw", Fail, "No Wi-Fi card is seen.", "Plug one in."}}
	ready := []Check{{"wifi-hw", OK, "phy0", ""}, {"country", Warn, "none", "set it"}}
	for _, tt := range []struct {
		name  string
		links readLinks
		radio []Check
		want  State
		parts []string
	}{
		{"all", readLinks{links: []link.Link{eth}}, ready, OK, []string{"eth0 (ethernet), Wi-Fi Direct."}},
		{"cable only", readLinks{links: []link.Link{eth, docker}}, noCard, OK, []string{"Works: eth0 (ethernet).", "No Wi-Fi card is seen."}},
		{"radio only", readLinks{links: []link.Link{docker}}, ready, OK, []string{"Works: Wi-Fi Direct.", "No network link"}},
		{"nothing", readLinks{links: []link.Link{docker}}, noCard, Fail, []string{"Nothing can work."}},
		{"nothing known", readLinks{err: errors.New("no netlink")}, nil, Fail, []string{"no netlink"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := usable(tt.links, tt.radio)
			if c.State != tt.want {
				t.Errorf("state %s", c.State)
			}
			for _, part := range tt.parts {
				if !strings.Contains(c.Cause, part) {
					t.Errorf("cause %q lacks %q", c.Cause, part)
				}
			}
		})
	}
}

func TestGivenChecksReplaceOurs(t *testing.T) {
	given := Check{"agent", OK, "It is me.", ""}
	checks := Run(t.Context(), Config{Socket: "/nonexistent/agent.sock", Given: []Check{given}, Bus: "unix:path=/nonexistent"})
	if find(t, checks, "agent") != given || countOf(checks, "agent") != 1 {
		t.Errorf("%+v", checks)
	}
}

func countOf(checks []Check, id string) (n int) {
	for _, c := range checks {
		if c.ID == id {
			n++
		}
	}
	return n
}

// TestChecksAreListed holds the table in doc.go and the list of IDs to each other.
func TestChecksAreListed(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(text)) {
		if row, ok := strings.CutPrefix(line, "//\t"); ok {
			id, what, _ := strings.Cut(strings.TrimSpace(row), " ")
			if strings.TrimSpace(what) == "" {
				t.Errorf("%s says nothing", id)
			}
			listed = append(listed, id)
		}
	}
	if !slices.Equal(listed, IDs) {
		t.Errorf("doc.go lists %q\nIDs are %q", listed, IDs)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	private, open := filepath.Join(dir, "private"), filepath.Join(dir, "open")
	for path, mode := range map[string]os.FileMode{private: 0o700, open: 0o755} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name  string
		check func(context.Context, Config) []Check
		c     Config
		want  State
		part  string
	}{
		{"state private", state, Config{State: private}, OK, private},
		{"state open", state, Config{State: open}, Warn, "mode 0755"},
		{"state missing", state, Config{State: filepath.Join(dir, "a/b")}, OK, "will be made"},
		{"state below a file", state, Config{State: filepath.Join(file, "b")}, Fail, "not a directory"},
		{"state a file", state, Config{State: file}, Fail, "not a folder"},
		{"inbox", inbox, Config{Inbox: filepath.Join(private, "x/y")}, OK, "free"},
		{"inbox a file", inbox, Config{Inbox: file}, Warn, "not a folder"},
		{"inbox full", inbox, Config{Inbox: private, MinFree: 1 << 62}, Warn, "have to stay free"},
		{"clock", clock, Config{now: time.Now}, OK, "set"},
		{"clock of a Pi", clock, Config{now: func() time.Time { return time.Unix(40, 0) }}, Warn, "1970"},
		{"socket missing", agent, Config{Socket: filepath.Join(dir, "none")}, Warn, "No agent runs"},
		{"socket folder open", socket, Config{Socket: filepath.Join(open, "s")}, Warn, "Other users"},
		{"socket folder private", socket, Config{Socket: filepath.Join(private, "s")}, OK, "Only its owner"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.check(t.Context(), tt.c)
			if len(got) != 1 || got[0].State != tt.want || !strings.Contains(got[0].Cause, tt.part) {
				t.Errorf("%+v, want %s with %q", got, tt.want, tt.part)
			}
			if len(got) == 1 && got[0].State != OK && got[0].Fix == "" {
				t.Errorf("no way out: %+v", got[0])
			}
		})
	}
}

// A disk that is read-only, and one that is full: real ones.
func TestDisks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=1M"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	c := Config{State: filepath.Join(disk, "state"), Inbox: filepath.Join(disk, "inbox"), MinFree: 512 << 10}
	if got := inbox(t.Context(), c); got[0].State != OK || !strings.Contains(got[0].Cause, "1.0 MiB free") {
		t.Errorf("empty: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(disk, "fill"), make([]byte, 900<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := inbox(t.Context(), c); got[0].State != Warn || !strings.Contains(got[0].Cause, "512.0 KiB have to stay free") {
		t.Errorf("full: %+v", got)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if got := inbox(t.Context(), c); got[0].State != Warn || !strings.Contains(got[0].Cause, "read-only file system") {
		t.Errorf("read-only inbox: %+v", got)
	}
	if got := state(t.Context(), c); got[0].State != Fail || !strings.Contains(got[0].Cause, "cannot be made") {
		t.Errorf("read-only state: %+v", got)
	}
}

func TestFilesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of another user")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if got := state(t.Context(), Config{State: dir}); got[0].State != Fail || !strings.Contains(got[0].Cause, "12345") {
		t.Errorf("%+v", got)
	}
}

func TestAgentAnswersOrHasLeftItsSocket(t *testing.T) {
	c := Config{Socket: filepath.Join(t.TempDir(), "s")}
	l, err := net.Listen("unix", c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if got := agent(t.Context(), c); got[0].State != OK {
		t.Errorf("listening: %+v", got)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if got := agent(t.Context(), c); got[0].State != Warn || !strings.Contains(got[0].Cause, "earlier one") {
		t.Errorf("left: %+v", got)
	}
}

// A check that hangs must not hold up the others, nor hide that it hangs.
func TestHungCheckIsNamed(t *testing.T) {
	hang := make(chan []Check)
	defer close(hang)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := awaitChecks(ctx, "inbox", hang); len(got) != 1 || got[0].State != Warn || got[0].ID != "inbox" {
		t.Errorf("%+v", got)
	}
}

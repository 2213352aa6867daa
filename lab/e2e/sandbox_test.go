package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// probeBinary builds the program with the tag probe: its agent can be asked to open files.
var probeBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "nigh-probe-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "nigh")
	cmd := exec.Command("go", "build", "-tags=probe", "-o", path, "nigh")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// probing starts an agent that can be asked, in a home of its own.
func probing(t *testing.T, questions string) (a *node.Agent, home, file string) {
	t.Helper()
	bin, err := probeBinary()
	if err != nil {
		t.Fatal(err)
	}
	home = filepath.Join(t.TempDir(), "home")
	file = filepath.Join(home, "state", "probe")
	for _, path := range []string{".ssh/id_ed25519", "letter.txt", "pictures/cat.png", "state/own", "inbox/old.txt", "later/empty"} {
		random(t, filepath.Join(home, path), 100)
	}
	questions = strings.ReplaceAll(strings.TrimSpace(questions), "HOME", home)
	if err := os.WriteFile(file, []byte(questions), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NIGH_PROBE", file)
	h := lab.NewNet(t).Host("ada")
	a, err = node.Start(t.Context(), node.Config{Binary: bin, Dir: home, Name: "ada", Command: h.Command, Args: []string{"--no-direct"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Kill() })
	st, err := a.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Agent.Sandbox.State != "landlock" {
		t.Skip("no sandbox here: " + st.Agent.Sandbox.Why)
	}
	return a, home, file
}

// answers returns what became of the questions of a probe.
func answers(t *testing.T, file string) map[string]string {
	t.Helper()
	all := map[string]string{}
	ctx := within(t, 30*time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(file)
		if err == nil {
			for line := range strings.Lines(string(text)) {
				q, answer, _ := strings.Cut(strings.TrimSpace(line), ": ")
				all[q] = answer
			}
			return all
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the probe did not answer: %v", err)
		case <-tick.C:
		}
	}
}

// Show 7 of the trust issue: the process of a running agent is asked to open files of its user's.
func TestSandboxKeepsTheAgentFromTheHome(t *testing.T) {
	const outside = `
read HOME/.ssh/id_ed25519
list HOME/.ssh
list HOME
read HOME/letter.txt
write HOME/.bashrc
write HOME/.ssh/id_ed25519
make HOME/.config
run HOME/.ssh/id_ed25519
link HOME/.ssh/id_ed25519
read /proc/self/root/HOME/.ssh/id_ed25519
broker HOME/.ssh/id_ed25519
broker HOME/letter.txt
write /var/tmp/nigh-probe
memory -
`
	const inside = `
read HOME/state/own
write HOME/inbox/new.txt
make HOME/inbox/folder
read HOME/inbox/old.txt
run HOME/inbox/old.txt
read /etc/passwd
read /proc/sys/kernel/random/boot_id
`
	ada, home, file := probing(t, outside+strings.TrimSpace(inside))
	defer os.Remove("/var/tmp/nigh-probe")
	// What the person names is open from then on, and nothing beside it.
	if out, errs, code := ada.Run(within(t, 30*time.Second), "share", "add", filepath.Join(home, "pictures")); code != 0 {
		t.Fatalf("share add: exit %d: %s%s", code, out, errs)
	}
	before := answers(t, file+".before")
	if err := syscall.Kill(ada.PID(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	after := answers(t, file+".after")
	for _, part := range []struct {
		questions string
		open      bool
	}{{outside, false}, {inside, true}} {
		for q := range strings.Lines(strings.TrimSpace(strings.ReplaceAll(part.questions, "HOME", home))) {
			q = strings.TrimSpace(q)
			if before[q] != "ok" {
				t.Errorf("without a sandbox %s: %q", q, before[q])
			}
			if open := after[q] == "ok"; open != part.open {
				t.Errorf("in the sandbox %s: %q", q, after[q])
			}
		}
	}
	var shares []control.Share
	if err := ada.JSON(t.Context(), &shares, "share", "list"); err != nil {
		t.Fatal(err)
	}
	if len(shares) != 1 || shares[0].Error != "" {
		t.Errorf("shares: %+v", shares)
	}
}

// An agent whose broker was killed can send nothing any more: it ends, and says why, so that the service starts anew.
func TestAgentEndsWithItsBroker(t *testing.T) {
	ada, _, _ := probing(t, "read /etc/passwd")
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(ada.PID()) + "/task/" + strconv.Itoa(ada.PID()) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	killed := false
	for _, child := range strings.Fields(string(raw)) {
		if name, err := os.ReadFile("/proc/" + child + "/cmdline"); err == nil && strings.HasPrefix(string(name), "nigh-broker") {
			pid, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			killed = syscall.Kill(pid, syscall.SIGKILL) == nil
		}
	}
	if !killed {
		t.Fatalf("no broker among the children %q", raw)
	}
	if err := ada.Wait(within(t, 30*time.Second)); err == nil || !strings.Contains(ada.Tail(), "broker is gone") {
		t.Errorf("the agent ended with %v:\n%s", err, ada.Tail())
	}
}

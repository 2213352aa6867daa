package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// binary builds the program once for all tests of this file.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "nigh-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "nigh")
	cmd := exec.Command("go", "build", "-o", path, "nigh")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// start runs an agent on a host of the bed.
func start(t *testing.T, h *lab.Host, name string, args ...string) *node.Agent {
	t.Helper()
	return startIn(t, t.TempDir(), h, name, args...)
}

// startIn is start with a folder for all that the agent writes.
func startIn(t *testing.T, dir string, h *lab.Host, name string, args ...string) *node.Agent {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	a, err := node.Start(t.Context(), node.Config{
		Binary: bin, Dir: dir, Name: name, Command: h.Command,
		Args: append([]string{"--no-direct"}, args...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Kill() })
	return a
}

// pair starts two agents on one segment that trust each other.
func pair(t *testing.T, args ...string) (ada, bob *node.Agent) {
	t.Helper()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	ada, bob = start(t, ha, "ada", args...), start(t, hb, "bob", args...)
	befriend(t, ada, bob)
	return ada, bob
}

// befriend makes two agents trust each other by their IDs.
func befriend(t *testing.T, a, b *node.Agent) {
	t.Helper()
	if err := node.Befriend(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
}

// within gives a context for one wait.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func hasPeer(name, state string) func(control.State) bool {
	return func(s control.State) bool {
		for _, p := range s.Peers {
			if p.Name == name && p.State == state {
				return true
			}
		}
		return false
	}
}

func transferIs(state string) func(control.State) bool {
	return func(s control.State) bool {
		for _, t := range s.Transfers {
			if t.State == state {
				return true
			}
		}
		return false
	}
}

func TestListedWithinTwoSeconds(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	ada := start(t, ha, "ada")
	began := time.Now()
	bob := start(t, hb, "bob")
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if err := w.on.Await(within(t, 20*time.Second), hasPeer(w.who, "visible")); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s lists %s %.2f s after bob was started", w.on.Name, w.who, time.Since(began).Seconds())
		var peers []control.Peer
		if err := w.on.JSON(t.Context(), &peers, "peers"); err != nil {
			t.Fatal(err)
		}
		if len(peers) != 1 || peers[0].Name != w.who || peers[0].Trust != "new" || len(peers[0].Paths) != 1 || peers[0].Paths[0].Kind != "lan" {
			t.Errorf("%s lists %+v", w.on.Name, peers)
		}
	}
	// The goal is 2 s on a quiet machine; a loaded one under -race gets more.
	if d := time.Since(began); d > 8*time.Second {
		t.Errorf("both were listed only after %v", d)
	}
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if err := ada.Await(within(t, 20*time.Second), func(s control.State) bool { return len(s.Peers) == 0 }); err != nil {
		t.Fatal(err)
	}
	t.Logf("gone %.2f s after a clean stop", time.Since(stopped).Seconds())
}

func TestSendFileAndFolder(t *testing.T) {
	ada, bob := pair(t, "--accept", "trusted")
	src := t.TempDir()
	file := filepath.Join(src, "Größe – 写真.bin")
	random(t, file, 5<<20+123)
	tree := filepath.Join(src, "földer")
	for name, size := range map[string]int64{
		"a.txt": 10, "leer": 0, "sub/日本語.txt": 300 << 10, "sub/deep/er/x": 1, "e\u0301/nfd": 5, ".hidden": 3,
	} {
		random(t, filepath.Join(tree, name), size)
	}
	if err := os.MkdirAll(filepath.Join(tree, "empty folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{file, tree} {
		out, errs, code := ada.Run(within(t, time.Minute), "send", what, "--to", "bob", "--wait")
		if code != 0 {
			t.Fatalf("send %s: exit %d\n%s%s\n%s", what, code, out, errs, bob.Tail())
		}
	}
	// The link is not sent, everything else is equal.
	if err := os.Remove(filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, src), digest(t, bob.Inbox); want != got {
		t.Errorf("the trees differ\nsent:\n%s\nreceived:\n%s", want, got)
	}
	var transfers []control.Transfer
	if err := ada.JSON(t.Context(), &transfers, "transfers"); err != nil {
		t.Fatal(err)
	}
	if len(transfers) != 2 || transfers[0].State != "done" || transfers[1].State != "done" {
		t.Errorf("the sender's transfers: %+v", transfers)
	}
}

func TestEveryOfferAsksUnlessAllowed(t *testing.T) {
	ada, bob := pair(t)
	src := filepath.Join(t.TempDir(), "note.txt")
	random(t, src, 1000)
	send := func() string {
		if _, errs, code := ada.Run(within(t, 30*time.Second), "send", src, "--to", "bob"); code != 0 {
			t.Fatalf("send: exit %d: %s", code, errs)
		}
		if err := bob.Await(within(t, 20*time.Second), func(s control.State) bool { return len(s.Inbox) == 1 }); err != nil {
			t.Fatal(err)
		}
		var inbox []control.InboxItem
		if err := bob.JSON(t.Context(), &inbox, "inbox"); err != nil {
			t.Fatal(err)
		}
		if inbox[0].PeerName != "ada" || inbox[0].Trust != "trusted" || inbox[0].Transfer.Names[0] != "note.txt" {
			t.Errorf("inbox: %+v", inbox[0])
		}
		return inbox[0].ID
	}
	id := send()
	if _, errs, code := bob.Run(t.Context(), "refuse", id); code != 0 {
		t.Fatalf("refuse: exit %d: %s", code, errs)
	}
	if err := ada.Await(within(t, 20*time.Second), transferIs("refused")); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(t.TempDir(), "elsewhere")
	if _, errs, code := bob.Run(t.Context(), "accept", send(), "--into", into); code != 0 {
		t.Fatalf("accept: exit %d: %s", code, errs)
	}
	if err := ada.Await(within(t, 20*time.Second), transferIs("done")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(into, "note.txt")); err != nil {
		t.Error(err)
	}
}

// TestKilledReceiverResumes is the promise that nothing gets lost: no half file
// under its final name, and the rest comes by itself.
func TestKilledReceiverResumes(t *testing.T) {
	ada, bob := pair(t, "--accept", "trusted")
	const size = 768 << 20
	src := filepath.Join(t.TempDir(), "film.mov")
	random(t, src, size)
	if _, errs, code := ada.Run(within(t, 30*time.Second), "send", src, "--to", "bob"); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	var at int64
	err := bob.Await(within(t, 60*time.Second), func(s control.State) bool {
		if len(s.Transfers) == 0 {
			return false
		}
		tr := s.Transfers[0]
		if tr.State == "done" {
			t.Fatal("the transfer was done before it could be killed; make the file larger")
		}
		at = tr.BytesDone
		return at > size*40/100
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bob.Inbox, "film.mov")); err == nil {
		t.Fatal("a half file lies under its final name")
	}
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bob.Await(within(t, 2*time.Minute), transferIs("done")); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, src), digest(t, filepath.Join(bob.Inbox, "film.mov")); want != got {
		t.Error("the hashes differ")
	}
	var transfers []control.Transfer
	// The sender counted every byte that left it, the killed receiver may not have.
	if err := ada.JSON(t.Context(), &transfers, "transfers"); err != nil {
		t.Fatal(err)
	}
	again := float64(transfers[0].BytesMoved-size) / size
	t.Logf("killed at %.0f %%, %.1f %% of the bytes were sent twice", 100*float64(at)/size, 100*again)
	if again > 0.10 {
		t.Errorf("%.1f %% of the bytes were sent twice", 100*again)
	}
}

func TestSecondAgentOnTheSameStateIsRefused(t *testing.T) {
	n := lab.NewNet(t)
	ada := start(t, n.Host("ada"), "ada")
	_, errs, code := ada.Run(within(t, 20*time.Second), "agent", "--state", ada.State, "--socket", filepath.Join(ada.Dir, "other.sock"), "--no-direct")
	if code == 0 || !strings.Contains(errs, fmt.Sprint(ada.PID())) || !strings.Contains(errs, "hint:") {
		t.Errorf("exit %d, said %q; want a refusal that names process %d", code, errs, ada.PID())
	}
}

func TestPlainErrors(t *testing.T) {
	n := lab.NewNet(t)
	ada := start(t, n.Host("ada"), "ada")
	note := filepath.Join(t.TempDir(), "note")
	random(t, note, 10)
	bad := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(bad, []byte("name = \"x\"\ncolour = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"send", note, "--to", "nobody"}, 4, "nobody"},
		{[]string{"send", "/does/not/exist", "--to", "nobody"}, 1, "/does/not/exist"},
		{[]string{"send", note}, 2, "--to"},
		{[]string{"accept", "1234"}, 4, "1234"},
		{[]string{"cancel", "1234"}, 4, "1234"},
		{[]string{"group", "create"}, 1, "Wi-Fi Direct"},
		{[]string{"trust", "add", "short"}, 2, "short"},
		{[]string{"agent", "--config", bad, "--socket", filepath.Join(ada.Dir, "x.sock"), "--state", t.TempDir()}, 2, "colour"},
		{[]string{"sned"}, 2, "send"},
	} {
		out, errs, code := ada.Run(within(t, 60*time.Second), c.args...)
		if code != c.code || !strings.Contains(errs, c.says) || !strings.HasPrefix(errs, "nigh: error: ") {
			t.Errorf("nigh %s: exit %d, want %d; stdout %q, stderr %q", strings.Join(c.args, " "), code, c.code, out, errs)
		}
		if lines := strings.Count(strings.TrimSpace(errs), "\n"); lines > 1 {
			t.Errorf("nigh %s said more than a sentence and a hint: %q", strings.Join(c.args, " "), errs)
		}
	}
	if err := ada.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := ada.Run(within(t, 20*time.Second), "peers"); code != 6 || !strings.Contains(errs, "nigh: hint: ") {
		t.Errorf("without an agent: exit %d, stderr %q", code, errs)
	}
}

func TestDamagedDatabaseKeepsTheKey(t *testing.T) {
	n := lab.NewNet(t)
	ada := start(t, n.Host("ada"), "ada")
	before, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ada.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ada.State, "nigh.db"), bytes.Repeat([]byte("junk"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.ID != before.ID {
		t.Errorf("the identity changed from %s to %s", before.ID, after.ID)
	}
	if len(after.Notices) != 1 || !strings.Contains(after.Notices[0], "damaged") {
		t.Errorf("notices: %q", after.Notices)
	}
}

// random writes a file of random bytes, making its folder.
func random(t *testing.T, path string, size int64) {
	t.Helper()
	if err := node.Random(path, size); err != nil {
		t.Fatal(err)
	}
}

// digest describes a file or tree, see [node.Digest].
func digest(t *testing.T, root string) string {
	t.Helper()
	d, err := node.Digest(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// circle starts agents on one segment; the first trusts and is trusted by all others, and they each other.
func circle(t *testing.T, names ...string) []*node.Agent {
	t.Helper()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	var agents []*node.Agent
	for i, name := range names {
		h := n.Host(name)
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		agents = append(agents, start(t, h, name))
	}
	for i, a := range agents {
		for _, b := range agents[i+1:] {
			befriend(t, a, b)
		}
	}
	for _, a := range agents {
		for _, b := range agents {
			if a == b {
				continue
			}
			if err := a.Await(within(t, 30*time.Second), hasPeer(b.Name, "ready")); err != nil {
				t.Fatal(err)
			}
		}
	}
	return agents
}

// shareFolder shares a folder of a device and waits until all of it is listed and hashed.
func shareFolder(t *testing.T, a *node.Agent, args ...string) {
	t.Helper()
	if _, errs, code := a.Run(within(t, 20*time.Second), append([]string{"share", "add"}, args...)...); code != 0 {
		t.Fatalf("share add %q: exit %d: %s", args, code, errs)
	}
	awaitShares(t, a, func(s control.Share) bool { return s.State == "ready" && s.Hashed == s.Files })
}

func awaitShares(t *testing.T, a *node.Agent, ok func(control.Share) bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t, 60*time.Second); ; {
		shares, err := a.Client().Shares(ctx)
		if err != nil {
			t.Fatal(err, shares)
		}
		if !slices.ContainsFunc(shares, func(s control.Share) bool { return !ok(s) }) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("shares: %+v", shares)
		}
	}
}

func must(t *testing.T, a *node.Agent, args ...string) string {
	t.Helper()
	began := time.Now()
	out, errs, code := a.Run(within(t, time.Minute), args...)
	t.Logf("nigh %q on %s took %.2f s", args, a.Name, time.Since(began).Seconds())
	if code != 0 {
		t.Fatalf("nigh %q on %s: exit %d\n%s%s", args, a.Name, code, out, errs)
	}
	return out
}

func fails(t *testing.T, a *node.Agent, want int, says string, args ...string) {
	t.Helper()
	began := time.Now()
	defer func() { t.Logf("nigh %q took %.1f s", args, time.Since(began).Seconds()) }()
	out, errs, code := a.Run(within(t, time.Minute), args...)
	if code != want || !strings.Contains(errs, says) || strings.Count(strings.TrimSpace(errs), "\n") > 1 {
		t.Errorf("nigh %q on %s: exit %d, want %d with %q\n%s%s", args, a.Name, code, want, says, out, errs)
	}
}

func TestShareBrowseSearchGet(t *testing.T) {
	agents := circle(t, "ada", "bob", "eve")
	ada, bob, eve := agents[0], agents[1], agents[2]
	dir := t.TempDir()
	film := filepath.Join(dir, "films/Ferien Größe 2026.mkv")
	random(t, film, 3<<20+17)
	random(t, filepath.Join(dir, "films/sub/e\u0301t\u00e9.txt"), 1000)
	random(t, filepath.Join(dir, "films/sub/deep/empty"), 0)
	random(t, filepath.Join(dir, "films/.secret"), 10)
	random(t, filepath.Join(dir, "plans/plan.pdf"), 5000)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "films/sub/link")); err != nil {
		t.Fatal(err)
	}
	shareFolder(t, ada, filepath.Join(dir, "films"))
	shareFolder(t, ada, filepath.Join(dir, "plans"), "--for", "bob")
	// Eve has the film too, under another name.
	copied := filepath.Join(t.TempDir(), "eve's")
	raw, err := os.ReadFile(film)
	if err != nil {
		t.Fatal(err)
	}
	random(t, filepath.Join(copied, "unrelated"), 10)
	if err := os.WriteFile(filepath.Join(copied, "GRÖSSE.mkv"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	shareFolder(t, eve, copied, "--name", "videos")

	if got := must(t, bob, "browse", "ada"); !strings.Contains(got, "films") || !strings.Contains(got, "plans") {
		t.Errorf("bob sees\n%s", got)
	}
	if got := must(t, eve, "browse", "ada"); !strings.Contains(got, "films") || strings.Contains(got, "plans") {
		t.Errorf("eve sees\n%s", got)
	}
	fails(t, eve, 4, "may see", "browse", "ada:plans")
	fails(t, eve, 4, "may see", "get", "ada:plans/plan.pdf")
	fails(t, bob, 4, "may see", "get", "ada:films/../plans/nothing")
	fails(t, bob, 4, "may see", "get", "ada:films/.secret")
	fails(t, bob, 4, "may see", "get", "ada:films/sub/link")
	fails(t, bob, 4, "zoe", "get", "zoe:films")
	fails(t, bob, 4, "hash", "get", strings.Repeat("ab", 32))

	// One content on two devices is one result; names are found whatever their case and Unicode form.
	var answer control.SearchAnswer
	if err := json.Unmarshal([]byte(must(t, bob, "search", "gro\u0308SSE", "--json")), &answer); err != nil {
		t.Fatal(err)
	}
	hash := content.Sum(raw).String()
	if answer.Asked != 2 || len(answer.Silent) != 0 || len(answer.Results) != 1 || answer.Results[0].Hash != hash || len(answer.Results[0].Holders) != 2 {
		t.Fatalf("%+v", answer)
	}
	if out := must(t, eve, "search", "plan"); strings.Contains(out, "plan.pdf") {
		t.Errorf("eve finds\n%s", out)
	}

	// A file by its path, nobody is asked; a folder; a share; by hash.
	must(t, bob, "get", "ada:films/Ferien Größe 2026.mkv", "--wait")
	if want, got := digest(t, film), digest(t, filepath.Join(bob.Inbox, "Ferien Größe 2026.mkv")); want != got {
		t.Error("the film differs")
	}
	into := filepath.Join(t.TempDir(), "into")
	must(t, bob, "get", "ada:films/sub", "--wait", "--into", into)
	if err := os.Remove(filepath.Join(dir, "films/sub/link")); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, filepath.Join(dir, "films/sub")), digest(t, filepath.Join(into, "sub")); want != got {
		t.Errorf("the folder differs\n%s\n%s", want, got)
	}
	must(t, bob, "get", "ada:films", "--wait", "--into", into)
	if err := os.Remove(filepath.Join(dir, "films/.secret")); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, filepath.Join(dir, "films")), digest(t, filepath.Join(into, "films")); want != got {
		t.Errorf("the share differs\n%s\n%s", want, got)
	}
	for i, from := range [][]string{nil, {"--from", "eve"}, {"--from", "ada"}} {
		into := filepath.Join(t.TempDir(), fmt.Sprint(i))
		must(t, bob, append([]string{"get", hash, "--wait", "--into", into}, from...)...)
		files, err := os.ReadDir(into)
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if got, err := os.ReadFile(filepath.Join(into, files[0].Name())); err != nil || content.Sum(got).String() != hash {
			t.Errorf("from %q: %v", from, err)
		}
	}
	// An inbox that waits for answers never had a question, on either side.
	for _, a := range agents {
		if items, err := a.Client().Inbox(t.Context()); err != nil || len(items) != 0 {
			t.Errorf("%s was asked: %+v, %v", a.Name, items, err)
		}
	}
	// A holder that went away without a word is passed over.
	if err := eve.Kill(); err != nil {
		t.Fatal(err)
	}
	must(t, bob, "get", hash, "--wait", "--into", filepath.Join(t.TempDir(), "after"))
	// A change is there soon; a share that ended is not.
	random(t, filepath.Join(dir, "films/new.txt"), 10)
	awaitShares(t, ada, func(s control.Share) bool { return s.Name != "films" || s.Files == 4 })
	must(t, bob, "get", "ada:films/new.txt", "--wait")
	must(t, ada, "share", "remove", "films")
	fails(t, bob, 4, "may see", "browse", "ada:films")
	fails(t, bob, 4, "may see", "get", "ada:films/new.txt")
	// A device that is not trusted any more sees nothing.
	must(t, ada, "trust", "remove", "bob")
	if _, _, code := bob.Run(within(t, time.Minute), "browse", "ada:plans"); code != 4 {
		t.Errorf("not trusted: exit %d", code)
	}
}

// TestKilledGetResumes kills first the one that asked, then the holder, and once more in the middle.
func TestKilledGetResumes(t *testing.T) {
	agents := circle(t, "ada", "bob")
	ada, bob := agents[0], agents[1]
	const size = 512 << 20
	dir := t.TempDir()
	film := filepath.Join(dir, "film.mov")
	random(t, film, size)
	shareFolder(t, ada, dir, "--name", "s")
	must(t, bob, "get", "ada:s/film.mov")
	for i, victim := range []*node.Agent{bob, ada} {
		err := bob.Await(within(t, 60*time.Second), func(s control.State) bool {
			if len(s.Transfers) == 0 {
				return false
			}
			if s.Transfers[0].State == "done" {
				t.Fatal("the transfer was done before it could be killed; make the file larger")
			}
			return s.Transfers[0].BytesDone > size*int64(25+30*i)/100
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(bob.Inbox, "film.mov")); err == nil {
			t.Fatal("a half file lies under its final name")
		}
		if err := victim.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := bob.Await(within(t, 2*time.Minute), transferIs("done")); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, film), digest(t, filepath.Join(bob.Inbox, "film.mov")); want != got {
		t.Error("the hashes differ")
	}
}

// TestGetThroughAFirewall has one side's firewall drop what comes in: to ask and to be asked work from both sides.
func TestGetThroughAFirewall(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	cmd := hb.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`table inet filter {
		chain input {
			type filter hook input priority 0; policy drop;
			iif lo accept
			ct state established,related accept
			meta l4proto ipv6-icmp accept
			udp dport 5353 accept
		}
	}
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob")
	befriend(t, ada, bob)
	for _, tt := range []struct{ asks, has *node.Agent }{{ada, bob}, {bob, ada}} {
		if err := tt.asks.Await(within(t, 30*time.Second), hasPeer(tt.has.Name, "ready")); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "s")
		random(t, filepath.Join(dir, "film.mkv"), 5<<20)
		random(t, filepath.Join(dir, "sub/x"), 10)
		shareFolder(t, tt.has, dir)
		if out := must(t, tt.asks, "browse", tt.has.Name+":s"); !strings.Contains(out, "film.mkv") {
			t.Errorf("%s sees %s", tt.asks.Name, out)
		}
		if out := must(t, tt.asks, "search", "film"); !strings.Contains(out, tt.has.Name+":s/film.mkv") {
			t.Errorf("%s finds %s", tt.asks.Name, out)
		}
		must(t, tt.asks, "get", tt.has.Name+":s", "--wait")
		if want, got := digest(t, dir), digest(t, filepath.Join(tt.asks.Inbox, "s")); want != got {
			t.Errorf("%s got\n%s\nwant\n%s", tt.asks.Name, got, want)
		}
	}
}

// TestGetThatFails has every way to fail that a person can meet, each with its sentence and exit code.
func TestGetThatFails(t *testing.T) {
	lab.NeedRoot(t)
	// Before the agents start: each has mounts of its own.
	small := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", small, "tmpfs", 0, "size=300m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	agents := circle(t, "ada", "bob")
	ada, bob := agents[0], agents[1]
	dir := filepath.Join(t.TempDir(), "disk")
	random(t, filepath.Join(dir, "big"), 700<<20)
	random(t, filepath.Join(dir, "x"), 10)
	must(t, ada, "share", "add", dir)
	awaitShares(t, ada, func(s control.Share) bool { return s.State == "ready" })
	fails(t, bob, 2, "needs DEVICE:SHARE", "get", "ada")
	fails(t, bob, 7, "/proc/none", "get", "ada:disk/x", "--into", "/proc/none")
	fails(t, ada, 2, "state", "share", "add", ada.State)
	fails(t, ada, 2, "machine", "share", "add", "/")
	fails(t, ada, 2, "already", "share", "add", dir, "--name", "again")
	fails(t, ada, 4, "zoe", "share", "add", dir, "--for", "zoe")
	fails(t, ada, 4, "no such share", "share", "remove", "none")
	// No room: said before a byte moves, and nothing is left.
	fails(t, bob, 1, "not enough free space", "get", "ada:disk/big", "--into", small)
	// The share ends while it is being sent: so does what is on its way.
	id := strings.TrimSpace(must(t, bob, "get", "ada:disk/big"))
	if err := bob.Await(within(t, 30*time.Second), transferIs("running")); err != nil {
		t.Fatal(err)
	}
	must(t, ada, "share", "remove", "disk")
	err := bob.Await(within(t, 30*time.Second), func(s control.State) bool {
		return slices.ContainsFunc(s.Transfers, func(tr control.Transfer) bool { return tr.ID == id && tr.State == "failed" })
	})
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(bob.Inbox); err != nil || len(entries) > 1 {
		t.Error(entries, err)
	}
	// The holder goes away in the middle, for good: waiting for it ends in time.
	must(t, ada, "share", "add", dir)
	awaitShares(t, ada, func(s control.Share) bool { return s.State == "ready" })
	if err := ada.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := bob.Run(within(t, 90*time.Second), "get", "ada:disk/x", "--timeout", "5s"); code != 4 && code != 5 {
		t.Errorf("a holder that is gone: exit %d: %s", code, errs)
	}
	// Who is not trusted is not asked.
	must(t, bob, "trust", "remove", "ada")
	if _, errs, code := bob.Run(within(t, 90*time.Second), "browse", "ada:disk"); code != 4 && code != 7 {
		t.Errorf("a device that is not trusted: exit %d: %s", code, errs)
	}
	fails(t, bob, 4, "no trusted device is connected", "search", "x")
}

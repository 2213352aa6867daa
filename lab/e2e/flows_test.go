package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/lab/node"
)

// The flows of the terminal UI, each driven with keys from its first screen to what it does, between two agents. What needs a
// radio (a group and its code for phones) is driven in the lab.

// acquainted waits until two agents that trust each other are connected.
func acquainted(t *testing.T, ada, bob *node.Agent) {
	t.Helper()
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if err := w.on.Await(within(t, paneDeadline), hasPeer(w.who, "ready")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFlowPair: the filter finds the device, p begins, both compare the code and say yes.
func TestFlowPair(t *testing.T) {
	ada, bob := strangers(t)
	atAda, atBob := openPane(t, ada, "ada's window", 80, 24, ada.Dir), openPane(t, bob, "bob's window", 60, 16, bob.Dir)
	atBob.shows(`ada +new`)
	atAda.shows(`> bob +new`)
	atAda.press("/")
	atAda.types("nobody")
	atAda.shows(`nothing passes the filter`)
	atAda.press("Escape")
	atAda.shows(`> bob +new`)
	atAda.press("/")
	atAda.types("bo")
	atAda.press("Enter")
	atAda.shows(`filter "bo": 1 shown`)
	atAda.press("p")
	atAda.shows(`comparing a code on both`)
	atAda.press("Enter")
	code := atAda.shows(sixDigits)
	if got := atBob.shows(sixDigits); got != code {
		t.Errorf("bob's window shows %q, ada's %q", got, code)
	}
	atBob.until(`You said yes`, "y")
	trustsNobody(t, ada, bob)
	atAda.press("y")
	atAda.shows(`Paired with bob`)
	atBob.shows(`Paired with ada`)
	bothTrust(t, ada, bob)
	// One more question on each side: ada may send to bob without asking, bob is asked about by ada.
	atBob.until(`enter send +m message`, "y")
	atAda.until(`enter send +m message`, "n")
	for _, w := range []struct {
		on   *node.Agent
		auto bool
	}{{ada, false}, {bob, true}} {
		if err := w.on.Await(within(t, paneDeadline), func(s control.State) bool { return len(s.Peers) == 1 && s.Peers[0].AutoAccept == w.auto }); err != nil {
			t.Errorf("%s: %v", w.on.Name, err)
		}
	}
	atAda.press("?")
	atAda.shows(`Keys on Peers`)
	atAda.resize(120, 40)
	atAda.shows(`Keys on Peers`)
	atAda.press("Escape")
	atAda.shows(`(?s)> bob +trusted.*│ Identity`)
	// Without a radio there is no group, and it says so.
	atAda.press("5")
	atAda.press("Q")
	atAda.shows(`owns no group that a phone could join`)
	atAda.press("o", "q")
	if status := atAda.ends(); status != "0" && status != "" {
		t.Errorf("quitting: exit status %s", status)
	}
}

// TestFlowSend: the picker chooses a file and a folder; the other side, with two windows open, takes them in one. The next
// offer is refused, the one after goes elsewhere.
func TestFlowSend(t *testing.T) {
	ada, bob := pair(t)
	acquainted(t, ada, bob)
	src := t.TempDir()
	random(t, filepath.Join(src, "holiday.mov"), 3<<20+7)
	random(t, filepath.Join(src, "notes.txt"), 100)
	random(t, filepath.Join(src, "photos", "one.jpg"), 5000)
	random(t, filepath.Join(src, "photos", "two.jpg"), 6000)
	random(t, filepath.Join(src, ".hidden"), 10)
	atAda := openPane(t, ada, "ada's window", 80, 24, src)
	first, second := openPane(t, bob, "bob's first window", 80, 24, bob.Dir), openPane(t, bob, "bob's second window", 60, 16, bob.Dir)
	first.shows(`> ada +trusted`)
	second.shows(`> ada +trusted`)
	atAda.shows(`> bob +trusted`)

	atAda.press("Enter")
	if text := atAda.shows(`(?s)Send to bob.*photos/.*holiday.mov.*notes.txt`); strings.Contains(text, ".hidden") {
		t.Errorf("hidden names are shown:\n%s", text)
	}
	atAda.press("/")
	atAda.types("hol")
	atAda.shows(`filter: hol`)
	atAda.press("Enter")
	atAda.press("Space")
	atAda.shows(`\[x\] holiday.mov`)
	atAda.press("Escape")
	atAda.shows(`\[ \] notes.txt`)
	atAda.press("g", "j")
	atAda.shows(`> \[ \] photos/`)
	atAda.press("Space")
	atAda.shows(`Chosen: 1 file, 3.1 MB and 1 folder`)
	atAda.press("s")
	atAda.shows(`(?s)\[2 Transfers.*waiting for the answer`)
	first.shows(`(?s)Incoming files.*ada  \(trusted.*holiday.mov`)
	second.shows(`Incoming files`)
	first.until(`Accepted from ada`, "y")
	second.shows(`The question was answered elsewhere`)
	if err := bob.Await(within(t, paneDeadline), transferIs("done")); err != nil {
		t.Fatal(err)
	}
	atAda.shows(`delivered|verified|done`)
	first.press("2")
	first.shows(`holiday.* ada +3.2 MB +verified`)
	for _, name := range []string{"holiday.mov", "photos"} {
		if want, got := digest(t, filepath.Join(src, name)), digest(t, filepath.Join(bob.Inbox, name)); want != got {
			t.Errorf("%s differs\nsent:\n%s\nreceived:\n%s", name, want, got)
		}
	}

	offer := func() {
		t.Helper()
		atAda.press("1")
		atAda.shows(`\[1 Peers\]`)
		atAda.press("Enter")
		atAda.shows(`notes.txt`)
		atAda.press("G", "Space")
		atAda.shows(`\[x\] notes.txt`)
		atAda.press("s")
		atAda.shows(`waiting for the answer`)
		first.shows(`(?s)Incoming files.*notes.txt`)
	}
	offer()
	first.until(`Refused ada`, "n")
	second.shows(`The question was answered elsewhere`)
	atAda.shows(`notes.txt.*refused`)
	if _, err := os.Stat(filepath.Join(bob.Inbox, "notes.txt")); err == nil {
		t.Error("what was refused is there")
	}

	offer()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	first.until(`Save elsewhere`, "s")
	first.press("C-u")
	first.types(elsewhere)
	first.press("Enter")
	first.shows(`Accepted into`)
	if err := bob.Await(within(t, paneDeadline), func(s control.State) bool {
		n := 0
		for _, tr := range s.Transfers {
			if tr.State == "done" {
				n++
			}
		}
		return n == 2
	}); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, filepath.Join(src, "notes.txt")), digest(t, filepath.Join(elsewhere, "notes.txt")); want != got {
		t.Error("what was saved elsewhere differs")
	}
}

// TestFlowMessageShareSearchGet: a talk, then a folder that one shares and in which the other finds a file and gets it.
func TestFlowMessageShareSearchGet(t *testing.T) {
	ada, bob := pair(t)
	acquainted(t, ada, bob)
	films := filepath.Join(t.TempDir(), "films")
	random(t, filepath.Join(films, "2026", "holiday.mov"), 2<<20+1)
	random(t, filepath.Join(films, "readme"), 30)
	atAda, atBob := openPane(t, ada, "ada's window", 80, 24, ada.Dir), openPane(t, bob, "bob's window", 80, 24, bob.Dir)
	atBob.shows(`> ada +trusted`)
	atAda.shows(`> bob +trusted`)

	atAda.press("m")
	atAda.shows(`\[3 Messages`)
	atAda.types("dinner is ready")
	atAda.press("C-j")
	atAda.types("bring bread")
	atAda.press("Enter")
	atAda.shows(`(?s)dinner is ready.*bring bread.*delivered`)
	atBob.shows(`Message from ada: dinner is ready`)
	atBob.shows(`3 Messages 1`)
	atBob.press("3")
	atBob.shows(`(?s)\[3 Messages.*ada.*dinner is ready`)
	atBob.press("j")
	atBob.shows(`> ada`)
	atBob.press("Enter")
	atBob.types("größe: eins")
	atBob.press("Enter")
	atAda.shows(`größe: eins`)

	atAda.press("Escape")
	atAda.press("4")
	atAda.shows(`\[4 Shares`)
	atAda.press("a")
	atAda.shows(`Share a folder`)
	atAda.press("C-u")
	atAda.types(films[:len(films)-2])
	atAda.press("Tab")
	atAda.shows(`/films/`)
	atAda.press("Enter")
	atAda.shows(`Who may see films`)
	atAda.press("Enter")
	atAda.shows(`films +all trusted devices +/.*films +2`)
	atAda.press("g")
	atAda.shows(`> films`)
	awaitShares(t, ada, func(s control.Share) bool { return s.State == "ready" && s.Hashed == 2 })

	atBob.press("Escape")
	atBob.press("4")
	atBob.shows(`ada +near`)
	atBob.press("f")
	atBob.shows(`Search`)
	atBob.types("holiday")
	atBob.press("Enter")
	atBob.shows(`> holiday.mov`)
	atBob.press("r")
	atBob.shows(`Get from a share\?`)
	atBob.press("y")
	atBob.shows(`Receiving holiday.mov`)
	if err := bob.Await(within(t, paneDeadline), transferIs("done")); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, filepath.Join(films, "2026", "holiday.mov")), digest(t, filepath.Join(bob.Inbox, "holiday.mov")); want != got {
		t.Error("what was got differs")
	}
	atBob.press("2")
	atBob.shows(`holiday.mov +ada.*verified`)

	// The way through the folders, and back.
	atBob.press("4")
	atBob.press("Escape")
	atBob.shows(`ada +near`)
	atBob.press("G", "Enter")
	atBob.shows(`films/`)
	atBob.press("Enter")
	atBob.shows(`2026/`)
	atAda.press("x")
	atAda.shows(`Stop sharing\?`)
	atAda.press("y")
	atAda.shows(`Not shared any more`)
	awaitShares(t, ada, func(control.Share) bool { return false })
}

// TestFlowPauseResumeCancel: a slow transfer is paused and resumed, goes on after its receiver was killed, and another is
// cancelled. The window of the killed agent stays, says since when it knows nothing, and comes back by itself.
func TestFlowPauseResumeCancel(t *testing.T) {
	ada, bob := pair(t, "--accept", "trusted")
	acquainted(t, ada, bob)
	src := t.TempDir()
	random(t, filepath.Join(src, "film.mov"), 24<<20)
	must(t, ada, "trust", "set", "bob", "--rate-up", "200kB") // two minutes
	atAda, atBob := openPane(t, ada, "ada's window", 80, 24, src), openPane(t, bob, "bob's window", 80, 24, bob.Dir)
	atBob.shows(`> ada +trusted`)
	atAda.shows(`> bob +trusted`)
	send := func() {
		t.Helper()
		atAda.press("1")
		atAda.shows(`> bob +trusted .* ready`)
		atAda.press("Enter")
		atAda.shows(`\[ \] film.mov`)
		atAda.press("G", "Space")
		atAda.shows(`\[x\] film.mov`)
		atAda.press("s")
		atAda.shows(`> ↑ film.mov +bob +.*%.*B/s`)
	}
	send()
	atBob.press("2")
	atBob.shows(`> ↓ film.mov +ada +.*%`)
	atAda.press("p")
	atAda.shows(`film.mov +bob +paused`)
	atBob.shows(`film.mov +ada +paused`)
	atAda.press("r")
	atAda.shows(`film.mov +bob +.*%.*B/s`)
	if err := bob.Kill(); err != nil {
		t.Fatal(err)
	}
	atBob.shows(`As of \d\d:\d\d`)
	atBob.shows(`↓ film.mov`)
	atBob.press("p")
	atBob.shows(`Nothing can be done while no agent answers`)
	atBob.press("Escape")
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, ada, "trust", "set", "bob", "--rate-up", "none")
	atBob.shows(`film.mov +ada +.*verified`)
	atAda.shows(`film.mov +bob`)
	if want, got := digest(t, filepath.Join(src, "film.mov")), digest(t, filepath.Join(bob.Inbox, "film.mov")); want != got {
		t.Error("the hashes differ")
	}
	if err := ada.Await(within(t, paneDeadline), transferIs("done")); err != nil {
		t.Fatal(err)
	}

	must(t, ada, "trust", "set", "bob", "--rate-up", "200kB")
	random(t, filepath.Join(src, "film.mov"), 24<<20) // what bob has would not be sent again
	send()
	atAda.press("x")
	atAda.shows(`Cancel`)
	atAda.press("Enter") // the safe answer
	atAda.shows(`> ↑ film.mov +bob +.*%.*B/s`)
	atAda.press("x")
	atAda.shows(`Cancel`)
	atAda.press("y")
	atAda.shows(`film.mov +bob +.*cancelled`)
	atBob.shows(`film.mov +ada +.*cancelled`)
}

package tui

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nigh/agent/control"
	"nigh/tui/theme"
)

// deviceID makes a DeviceID of the real form and length: 14 groups of four.
func deviceID(begin string) string {
	s := begin
	for i := 0; len(s) < 69; i++ {
		s += fmt.Sprintf("-%c%c%c%c", "PLA9TK3CX7"[i%10], "A2QMWB5ZK4"[i%10], "QUJ6D7M2YR"[i%10], "H3VNE5SCGT"[i%10])
	}
	return s[:69]
}

var (
	idSelf    = deviceID("7Q4K-M2XD")
	idAna     = deviceID("B3RD-9KFA")
	idPi      = deviceID("XW2P-77LM")
	idPixel   = deviceID("K8SQ-4TVE")
	idKiosk   = deviceID("GJ5C-MM3Y")
	idWork    = deviceID("PB4H-R9KW")
	idUnknown = ""
)

func sampleStatus() control.Status {
	return control.Status{
		ID: idSelf, Short: "7Q4K-M2XD", Name: "pi5-kitchen", Version: "0.1.0",
		Agent: control.AgentInfo{PID: 712, Uptime: 5000, Mode: "service", Port: 7421,
			Inbox: "/home/ana/Downloads/nigh", State: "/home/ana/.local/state/nigh", Accept: "ask", Free: 61e9},
		Radio: control.Radio{State: "ready", Ifname: "wlan0", Engine: "system", Address: "02:1a:7d:da:71:11"},
		Links: []control.Link{
			{Ifname: "eth0", Kind: "ethernet", Up: true, Usable: true, Addresses: []string{"192.168.1.40/24", "fe80::2e0:4cff:fe68:12/64"}},
			{Ifname: "wlan0", Kind: "wifi", Up: true, Usable: true, Addresses: []string{"192.168.1.77/24"}},
			{Ifname: "docker0", Kind: "bridge", Up: true, Why: "a bridge of containers: no device is behind it"},
			{Ifname: "wg0", Kind: "tunnel", Up: true, Why: "a tunnel: it has no multicast"},
		},
		Limits: control.Limits{Transfers: 4, Peers: 512, MinFree: 1 << 30},
	}
}

func samplePeers() []control.Peer {
	return []control.Peer{
		{ID: idAna, Short: "B3RD-9KFA", Name: "Ana's laptop", Trust: "trusted", State: "ready", Age: 1, AutoAccept: true, Paths: []control.Path{
			{Kind: "direct", Ifname: "p2p-wlan0-0", Address: "[fe80::1]:7421", Signal: -48, RTT: 1.9, Active: true},
			{Kind: "lan", Ifname: "eth0", Address: "192.168.1.23:7421", RTT: 2.4}}},
		{ID: idPi, Short: "XW2P-77LM", Name: "living-room-pi", Trust: "trusted", State: "ready", Age: 2, Paths: []control.Path{
			{Kind: "lan", Ifname: "eth0", Address: "192.168.1.31:7421", RTT: 2.2, Active: true}}},
		{ID: idPixel, Short: "K8SQ-4TVE", Name: "Pixel 8", Trust: "new", State: "visible", Age: 12, Paths: []control.Path{
			{Kind: "direct", Address: "9e:0b:44:10:2f:01", Signal: -71}}},
		{ID: idUnknown, Name: "TV of the neighbours", Trust: "new", State: "visible", Age: 40, Paths: []control.Path{
			{Kind: "direct", Address: "aa:0b:44:10:2f:02", Signal: -84}}},
		{ID: idKiosk, Short: "GJ5C-MM3Y", Name: "kiosk-3", Trust: "blocked", State: "visible", Age: 3, Paths: []control.Path{
			{Kind: "lan", Ifname: "eth0", Address: "192.168.1.99:7421", RTT: 9.1}}},
		{ID: idWork, Short: "PB4H-R9KW", Name: "workshop", Trust: "trusted", State: "away", Age: 3 * 86400,
			Error: "it has not answered for 3 days", Hint: "switch it on, or bring it near"},
	}
}

func sampleTransfers() []control.Transfer {
	return []control.Transfer{
		{ID: "00a1", Direction: "receive", Peer: idAna, PeerName: "Ana's laptop", Name: "holiday-4k.mov", Files: 1, BytesTotal: 4_300_000_000,
			BytesDone: 2_623_000_000, BytesMoved: 2_650_000_000, Rate: 38.4e6, ETA: 42, State: "running", Sources: 1, PathKind: "direct",
			Path: "/home/ana/Downloads/nigh/holiday-4k.mov", Age: 400, Elapsed: 75.5},
		{ID: "00a2", Direction: "send", Peer: idPi, PeerName: "living-room-pi", Name: "backup.tar.zst", Files: 1, BytesTotal: 5_000_000_000,
			BytesDone: 900_000_000, BytesMoved: 900_000_000, Rate: 11.2e6, ETA: 370, State: "running", Sources: 1, PathKind: "lan",
			Path: "/srv/backup.tar.zst", Age: 300, Elapsed: 80},
		{ID: "00a3", Direction: "receive", Peer: idPixel, PeerName: "Pixel 8", Name: "notes.pdf", Files: 1, BytesTotal: 1_100_000, ETA: -1,
			State: "waiting", Path: "/home/ana/Downloads/nigh/notes.pdf", Age: 20},
		{ID: "00a4", Direction: "send", Peer: idWork, PeerName: "workshop", Name: "photos", Files: 212, Dirs: 3, Skipped: 2, BytesTotal: 812_000_000, ETA: -1,
			State: "queued", Error: "the device is away", Path: "/home/ana/photos", Age: 200, Names: []string{"photos"}},
		{ID: "00b1", Direction: "receive", Peer: idAna, PeerName: "Ana's laptop", Name: "setup.iso", Files: 1, BytesTotal: 4_700_000_000, BytesDone: 4_700_000_000,
			BytesMoved: 4_700_000_000, Elapsed: 127, State: "done", Ended: "1999-12-31T22:12:00Z", Path: "/home/ana/Downloads/nigh/setup.iso", Age: 6000},
		{ID: "00b2", Direction: "send", Peer: idKiosk, PeerName: "kiosk-3", Name: "diagram.svg", Files: 1, BytesTotal: 88_000, State: "refused",
			Ended: "1999-12-31T21:58:00Z", Path: "/home/ana/diagram.svg", Age: 7000},
		{ID: "00b3", Direction: "receive", Peer: idPi, PeerName: "living-room-pi", Name: "old.log", Files: 1, BytesTotal: 9_000_000_000, BytesDone: 120_000_000,
			State: "failed", Error: "the disk is full", ErrorCode: "disk_full", Hint: "make room, then press r", Ended: "1999-12-31T21:41:00Z",
			Path: "/home/ana/Downloads/nigh/old.log", Age: 8000},
	}
}

func sampleOffer() control.InboxItem {
	return control.InboxItem{ID: "i1", Kind: "transfer", Peer: idAna, PeerName: "Ana's laptop", Trust: "trusted", Expires: 277, Transfer: &control.Transfer{
		ID: "00c1", Direction: "receive", Peer: idAna, PeerName: "Ana's laptop", Name: "3 files", Files: 3, BytesTotal: 4_389_000_000, State: "waiting",
		Names: []string{"holiday-4k.mov", "holiday-4k.srt", "cover.jpg"}}}
}

func sampleRequest() control.InboxItem {
	return control.InboxItem{ID: "i2", Kind: "group", PeerName: "Pixel 8", Trust: "new", Expires: 48, Method: "pbc", Address: "9e:0b:44:10:2f:01"}
}

func samplePairing() control.InboxItem {
	return control.InboxItem{ID: "pair-1", Kind: "pair", Peer: idPixel, PeerName: "Pixel 8", Trust: "new", Expires: 48, Code: "482913"}
}

// phone opens the code for phones.
func (u *ui) phone() {
	g := sampleGroup()
	s := sampleStatus()
	s.Groups = []control.Group{g}
	u.agent.emit(control.Event{Type: "status", Status: &s})
	g.Passphrase = "x7Kq2mPa"
	u.agent.groups = []control.Group{g}
	u.settle()
	u.press("5", "Q")
}

// choosing opens the picker on a folder, and presses keys.
func (u *ui) choosing(keys ...string) {
	u.press("enter")
	d := u.a.top().d.(*picker)
	u.send(dirMsg{d: d, dir: "/home/pi/videos", entries: []entry{
		{"raw", true, 0, "2026-11-02"}, {"holiday-4k.mov", false, 4_300_000_000, "2026-11-21"}, {"holiday-4k.srt", false, 88_000, "2026-11-21"},
		{"holiday-cut2.mov", false, 3_900_000_000, "2026-11-20"}, {".secret", false, 12, "2026-11-01"}}})
	u.press(keys...)
}

func sampleMessages() []control.Message {
	to := func(state string, near bool, peers ...string) (list []control.Recipient) {
		for _, p := range peers {
			name := map[string]string{idAna: "Ana's laptop", idPi: "living-room-pi", idWork: "workshop"}[p]
			list = append(list, control.Recipient{Peer: p, PeerName: name, State: state, Near: near})
		}
		return list
	}
	return []control.Message{
		{Seq: 11, ID: "m11", Direction: "receive", Peer: idPi, PeerName: "living-room-pi", Text: "backup done", State: "received", Time: "1999-12-30T22:10:00Z"},
		{Seq: 12, ID: "m12", Direction: "receive", Peer: idAna, PeerName: "Ana's laptop", Text: "the slides are in /drop", State: "received", Time: "1999-12-30T18:02:00Z"},
		{Seq: 13, ID: "m13", Direction: "send", To: to("delivered", false, idAna), Text: "got them, thanks", State: "delivered", Time: "1999-12-30T18:03:00Z"},
		{Seq: 14, ID: "m14", Direction: "receive", Peer: idAna, PeerName: "Ana's laptop", State: "received", Time: "1999-12-31T22:30:00Z",
			Text: "sending the 4K one now\n  1. holiday-4k.mov, which is rather long and does not fit in one line of a small terminal\n  2. cover.jpg"},
		{Seq: 15, ID: "m15", Direction: "send", To: to("delivered", false, idAna), Text: "ok, I have 60 GB free", State: "delivered", Time: "1999-12-31T22:31:00Z"},
		{Seq: 16, ID: "m16", Direction: "send", To: append(to("delivered", false, idAna, idPi), to("waiting", false, idWork)...), Text: "lunch at noon", State: "waiting", Time: "1999-12-31T22:33:00Z"},
		{Seq: 17, ID: "m17", Direction: "receive", Peer: idPi, PeerName: "living-room-pi", Text: "disk is at 91 %", State: "received", Time: "1999-12-31T22:40:00Z"},
	}
}

func talking() control.State {
	s := sampleState()
	s.Messages, s.Unread = sampleMessages(), control.Unread{Read: 15, Count: 1}
	return s
}

func sampleGroup() control.Group {
	return control.Group{Ifname: "p2p-wlan0-0", Role: "GO", SSID: "DIRECT-Qk-pi5-kitchen", Frequency: 5180, Clients: 2, Address: "192.168.49.1/24",
		LinkLocal: "fe80::1", Persistent: true, Members: []string{"02:1a:7d:da:71:12", "9e:0b:44:10:2f:01"}, Uptime: 2530}
}

func sampleState() control.State {
	return control.State{Status: sampleStatus(), Peers: samplePeers(), Transfers: sampleTransfers()}
}

func firstRun() control.State {
	s := control.State{Status: sampleStatus()}
	s.Status.FirstRun = true
	return s
}

// scene is a frame that is kept as a golden.
type scene struct {
	name  string
	state func() control.State // nil = no agent answers
	do    func(u *ui)
}

// scenes are those of the screens, and of the dialogs that the agent opens or that do most.
var scenes = []scene{
	{"peers", sampleState, func(*ui) {}},
	{"peers-empty", func() control.State { return control.State{Status: sampleStatus()} }, func(*ui) {}},
	{"peers-no-radio", func() control.State {
		s := control.State{Status: sampleStatus()}
		s.Status.Radio = control.Radio{State: "absent", Hint: "plug in a Wi-Fi adapter that can do Wi-Fi Direct, then run: nigh doctor"}
		return s
	}, func(*ui) {}},
	{"transfers", sampleState, func(u *ui) { u.press("2") }},
	{"transfers-failed", sampleState, func(u *ui) { u.press("2", "G") }},
	{"messages", talking, func(u *ui) { u.press("3") }},
	{"messages-everyone", talking, func(u *ui) { u.press("3", "g") }},
	{"messages-writing", talking, func(u *ui) {
		u.press("m")
		u.typed("is it the long cut?")
		u.press("ctrl+j")
		u.typed("or the short one")
	}},
	{"messages-empty", func() control.State { return control.State{Status: sampleStatus()} }, func(u *ui) { u.press("3") }},
	{"shares", sampleState, func(u *ui) { u.agent.shares = sharing().shares; u.press("4", "j"); u.wait(4 * time.Second) }},
	{"shares-folder", sampleState, func(u *ui) {
		u.agent.shares, u.agent.listing = sharing().shares, sharing().listing
		u.press("4")
		u.wait(4 * time.Second)
		u.press("G", "k", "enter", "enter", "j")
	}},
	{"shares-found", sampleState, func(u *ui) {
		u.agent.found = sharing().found
		u.press("4", "f")
		u.typed("holiday")
		u.press("enter")
	}},
	{"shares-empty", func() control.State { return control.State{Status: sampleStatus()} }, func(u *ui) { u.press("4") }},
	{"network", func() control.State {
		s := sampleState()
		s.Status.Groups = []control.Group{sampleGroup()}
		return s
	}, func(u *ui) { u.press("5") }},
	{"network-no-radio", func() control.State {
		s := sampleState()
		s.Status.Radio = control.Radio{State: "off", Ifname: "wlan0", Hint: "run: rfkill unblock wifi"}
		return s
	}, func(u *ui) { u.press("5", "j", "j") }},
	{"log", sampleState, func(u *ui) {
		u.agent.checks = logging().checks
		for _, l := range logging().log {
			u.agent.emit(control.Event{Type: "log", Log: &l})
		}
		u.press("6", "g", "j")
		u.wait(3 * time.Second)
	}},
	{"offer", sampleState, func(u *ui) {
		i := sampleOffer()
		u.agent.emit(control.Event{Type: "inbox", Inbox: &i})
		u.settle()
	}},
	{"offer-new", sampleState, func(u *ui) {
		i := sampleOffer()
		i.Trust, i.Transfer.Dotfiles, i.Transfer.Executables, i.Transfer.BytesTotal = "new", true, true, 90e9
		for n := range 30 {
			i.Transfer.Names = append(i.Transfer.Names, fmt.Sprintf("a rather long name of a picture number %d that goes on and on.jpeg", n))
		}
		u.agent.emit(control.Event{Type: "inbox", Inbox: &i})
		u.settle()
	}},
	{"request", sampleState, func(u *ui) {
		i := sampleRequest()
		u.agent.emit(control.Event{Type: "inbox", Inbox: &i})
		u.settle()
	}},
	{"request-pin", sampleState, func(u *ui) {
		i := sampleRequest()
		i.Method, i.PIN = "show_pin", "12345670"
		u.agent.emit(control.Event{Type: "inbox", Inbox: &i})
		u.settle()
	}},
	{"pair", sampleState, func(u *ui) { u.press("/"); u.typed("pixel"); u.press("enter", "p") }},
	{"pair-setup-code", sampleState, func(u *ui) {
		u.agent.fail = &control.Error{Code: control.CodeUsage, Message: "that is not a setup code", Hint: "x"}
		u.press("/")
		u.typed("pixel")
		u.press("enter", "p", " ", "tab")
		u.typed("cgrt-6u6b-spis-flvl-5")
		u.press("enter")
	}},
	{"pair-connecting", sampleState, func(u *ui) {
		u.agent.begin = make(chan error)
		u.press("/")
		u.typed("pixel")
		u.press("enter", "p", "enter")
	}},
	{"pair-asked", sampleState, func(u *ui) { u.offerNow(samplePairing()) }},
	{"pair-own", sampleState, func(u *ui) {
		i := samplePairing()
		i.Own = true
		u.offerNow(i)
	}},
	{"pair-waiting", sampleState, func(u *ui) {
		u.offerNow(samplePairing())
		u.wait(500 * time.Millisecond)
		u.press("y")
	}},
	{"pair-refused", sampleState, func(u *ui) {
		u.agent.outcome = make(chan error)
		u.offerNow(samplePairing())
		u.agent.outcome <- &control.Error{Code: control.CodeRefused, Message: "the other side said no; nothing is trusted", Hint: "compare the codes with its user and try again"}
		u.settle()
	}},
	{"phone", sampleState, func(u *ui) { u.phone() }},
	{"phone-key", sampleState, func(u *ui) { u.phone(); u.press("v") }},
	{"cancel", sampleState, func(u *ui) { u.press("2", "x") }},
	{"connect", sampleState, func(u *ui) { u.press("/"); u.typed("pixel"); u.press("enter", "c") }},
	{"create", sampleState, func(u *ui) { u.press("5", "c") }},
	{"steps", sampleState, func(u *ui) {
		u.agent.group = make(chan error)
		u.press("5", "c", "enter")
		u.agent.emit(control.Event{Type: "step", Step: &control.Step{What: "group", Name: "group", State: "ok", After: 1.2, Text: "5180 MHz, as wlan0"}})
		u.agent.emit(control.Event{Type: "step", Step: &control.Step{What: "group", Name: "address", State: "running"}})
		u.settle()
	}},
	{"help", sampleState, func(u *ui) { u.press("?") }},
	{"picker", sampleState, func(u *ui) { u.choosing("j", "j", " ", " ") }},
	{"status", sampleState, func(u *ui) {
		u.agent.fail = &control.Error{Code: control.CodeBusy, Message: "the radio is busy", Hint: "wait until the group is up, then try again"}
		u.press("s")
	}},
	{"lost", sampleState, func(u *ui) {
		u.agent.stop(control.NoAgent())
		u.settle()
	}},
	{"welcome", firstRun, func(u *ui) { u.press("tab") }},
	{"welcome-wrong", firstRun, func(u *ui) {
		u.agent.fail = &control.Error{Code: control.CodeUsage, Message: "the inbox /proc/nigh cannot be made: no such file or directory", Hint: "name a folder that you may write in; the service sees your home only"}
		u.press("enter")
	}},
	{"welcome-named", func() control.State {
		s := firstRun()
		s.Status.NameFixed = "/etc/nigh/policy.toml:1"
		return s
	}, func(*ui) {}},
	{"service", firstRun, func(u *ui) {
		u.a.service = func(context.Context) string { return "sudo /home/ana/src/nigh/bin/nigh service install" }
		u.press("esc")
		u.wait(500 * time.Millisecond)
	}},
	{"no-agent", nil, func(*ui) {}},
}

// sizes are those of the goldens; otherSizes have their frames checked too.
var sizes, otherSizes = [][2]int{{80, 24}, {60, 16}, {120, 40}}, [][2]int{{110, 30}, {200, 60}}

// play runs fn on an app that shows the scene.
func (s scene) play(t *testing.T, ascii bool, w, h int, fn func(t *testing.T, u *ui)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		agent := &fakeAgent{}
		if s.state != nil {
			agent.state = s.state()
		} else {
			agent.down = &control.Error{Code: control.CodeNoAgent, Message: "the agent is not running",
				Hint: "start it with: systemctl start nigh@ana, or run: nigh agent"}
		}
		u := newUI(t, agent, theme.New(ascii, !ascii, theme.Unknown))
		defer u.end()
		u.a.th.HalfBlocks = !ascii
		u.resize(w, h)
		u.run(u.a.Init())
		u.settle()
		u.wait(1100 * time.Millisecond)
		s.do(u)
		fn(t, u)
	})
}

// check fails unless the frame has the size of the terminal, and no character that it may not have.
func (s scene) check(t *testing.T, u *ui, ascii bool) {
	t.Helper()
	checkFrame(t, u.a)
	drawn := u.text()
	if strings.HasPrefix(s.name, "phone") { // a code has two more
		drawn = strings.NewReplacer("▀", "", "▄", "").Replace(drawn)
	}
	checkGlyphs(t, drawn, ascii)
}

// TestGolden compares every scene at three sizes, in the common glyphs with colour and in ASCII without, and checks its frame at
// two more.
func TestGolden(t *testing.T) {
	for _, s := range allScenes() {
		for _, ascii := range []bool{false, true} {
			set := "common"
			if ascii {
				set = "ascii"
			}
			t.Run(s.name+"-"+set, func(t *testing.T) {
				text := ""
				for _, size := range sizes {
					s.play(t, ascii, size[0], size[1], func(t *testing.T, u *ui) {
						s.check(t, u, ascii)
						text += fmt.Sprintf("%dx%d\n%s\n", size[0], size[1], u.a.View())
						for _, other := range otherSizes {
							u.resize(other[0], other[1])
							s.check(t, u, ascii)
						}
					})
				}
				golden(t, s.name+"-"+set, text)
			})
		}
	}
}

// checkGlyphs fails for a character that the console of a Pi may not have. The
// scenes' own names are ASCII.
func checkGlyphs(t *testing.T, text string, ascii bool) {
	t.Helper()
	allowed := map[rune]bool{'\n': true}
	if !ascii {
		for _, r := range theme.Allowed {
			allowed[r] = true
		}
	}
	for _, r := range text {
		if (r < ' ' || r > '~') && !allowed[r] {
			t.Fatalf("%q is drawn, and is not in the set of glyphs:\n%s", r, text)
		}
	}
}

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/systemd"
	"nigh/tui"
)

// scene is what one picture shows.
type scene struct {
	name  string
	state func() control.State
	keys  []string // by X's names
	plain bool     // without boxes
	alone bool     // no agent answers, and the terminal UI has none of its own
	first bool     // the agent lives in the window, and a service can be installed
}

// id makes the DeviceID of a device that does not exist.
func id(name string) string { return identity.DeviceID(sha256.Sum256([]byte(name))).String() }

func short(name string) string { return identity.DeviceID(sha256.Sum256([]byte(name))).Short() }

func status(finding bool) control.Status {
	return control.Status{
		ID: id("pi5-kitchen"), Short: short("pi5-kitchen"), Name: "pi5-kitchen",
		Agent: control.AgentInfo{PID: 712, Uptime: 5000, Mode: "service", Port: 7421, Inbox: "/home/ana/Downloads/nigh", Accept: "ask", Free: 61e9},
		Radio: control.Radio{State: "ready", Ifname: "wlan0", Engine: "system", Finding: finding},
		Links: []control.Link{
			{Ifname: "eth0", Kind: "ethernet", Up: true, Usable: true, Addresses: []string{"192.168.1.40/24", "fe80::2e0:4cff:fe68:12/64"}},
			{Ifname: "wlan0", Kind: "wifi", Up: true, Why: "no address yet", Addresses: []string{}},
			{Ifname: "docker0", Kind: "bridge", Up: true, Why: "a bridge of containers", Addresses: []string{"172.17.0.1/16"}},
		},
		Limits: control.Limits{Transfers: 4, Peers: 512, MinFree: 1 << 30},
	}
}

func state() control.State {
	ended := time.Now().Format(time.RFC3339)
	return control.State{
		Status: status(false),
		Peers: []control.Peer{
			{ID: id("ana"), Short: short("ana"), Name: "Ana's laptop", Trust: "trusted", State: "ready", Age: 1, Paths: []control.Path{
				{Kind: "direct", Ifname: "p2p-wlan0-0", Address: "[fe80::1]:7421", Signal: -48, RTT: 1.9, Active: true},
				{Kind: "lan", Ifname: "eth0", Address: "192.168.1.23:7421", RTT: 2.4}}},
			{ID: id("living"), Short: short("living"), Name: "living-room-pi", Trust: "trusted", State: "ready", Age: 2, Paths: []control.Path{
				{Kind: "lan", Ifname: "eth0", Address: "192.168.1.31:7421", RTT: 2.2, Active: true}}},
			{ID: id("pixel"), Short: short("pixel"), Name: "Pixel 8", Trust: "new", State: "visible", Age: 600, Paths: []control.Path{
				{Kind: "direct", Address: "9e:0b:44:10:2f:01", Signal: -71}}},
			{ID: id("kiosk"), Short: short("kiosk"), Name: "kiosk-3", Trust: "blocked", State: "visible", Age: 3600, Paths: []control.Path{
				{Kind: "lan", Ifname: "eth0", Address: "192.168.1.99:7421", RTT: 9.1}}},
			{ID: id("workshop"), Short: short("workshop"), Name: "workshop", Trust: "trusted", State: "away", Age: 3 * 86400},
		},
		Transfers: []control.Transfer{
			{ID: "a1", Direction: "receive", Peer: id("ana"), PeerName: "Ana's laptop", Name: "holiday-4k.mov", Files: 1, BytesTotal: 4_300_000_000,
				BytesDone: 2_623_000_000, BytesMoved: 2_650_000_000, Rate: 38.4e6, ETA: 42, State: "running", Sources: 1, PathKind: "direct",
				Path: "/home/ana/Downloads/nigh/holiday-4k.mov", Age: 400, Elapsed: 75.5},
			{ID: "a2", Direction: "send", Peer: id("living"), PeerName: "living-room-pi", Name: "backup.tar.zst", Files: 1, BytesTotal: 5_000_000_000,
				BytesDone: 900_000_000, BytesMoved: 900_000_000, Rate: 11.2e6, ETA: 370, State: "running", PathKind: "lan", Path: "/srv/backup.tar.zst", Age: 300, Elapsed: 80},
			{ID: "a3", Direction: "receive", Peer: id("pixel"), PeerName: "Pixel 8", Name: "notes.pdf", Files: 1, BytesTotal: 1_100_000, ETA: -1, State: "waiting", Age: 20},
			{ID: "a4", Direction: "send", Peer: id("workshop"), PeerName: "workshop", Name: "photos", Files: 212, Dirs: 3, BytesTotal: 812_000_000, ETA: -1,
				State: "queued", Error: "the device is away", Path: "/home/ana/photos", Age: 200},
			{ID: "b1", Direction: "receive", Peer: id("ana"), PeerName: "Ana's laptop", Name: "setup.iso", Files: 1, BytesTotal: 4_700_000_000, BytesDone: 4_700_000_000,
				BytesMoved: 4_700_000_000, Elapsed: 127, State: "done", Ended: ended, Age: 6000},
			{ID: "b2", Direction: "send", Peer: id("kiosk"), PeerName: "kiosk-3", Name: "diagram.svg", Files: 1, BytesTotal: 88_000, State: "refused", Ended: ended, Age: 7000},
			{ID: "b3", Direction: "receive", Peer: id("living"), PeerName: "living-room-pi", Name: "old.log", Files: 1, BytesTotal: 9_000_000_000, BytesDone: 120_000_000,
				State: "failed", Error: "the disk is full", Hint: "make room, then press r", Ended: ended, Age: 8000},
		},
		Messages: []control.Message{
			{Seq: 12, ID: "m12", Direction: "receive", Peer: id("ana"), PeerName: "Ana's laptop", Text: "the slides are in /drop", State: "received", Time: said(-26 * time.Hour)},
			{Seq: 13, ID: "m13", Direction: "send", To: to("delivered"), Text: "got them, thanks", State: "delivered", Time: said(-25 * time.Hour)},
			{Seq: 14, ID: "m14", Direction: "receive", Peer: id("ana"), PeerName: "Ana's laptop", Text: "sending the 4K one now:\n  holiday-4k.mov, 4.3 GB", State: "received", Time: said(-3 * time.Minute)},
			{Seq: 15, ID: "m15", Direction: "send", To: to("delivered"), Text: "ok, I have 60 GB free", State: "delivered", Time: said(-2 * time.Minute)},
		},
	}
}

func to(state string) []control.Recipient {
	return []control.Recipient{{Peer: id("ana"), PeerName: "Ana's laptop", State: state}}
}

func said(ago time.Duration) string { return time.Now().Add(ago).Format(time.RFC3339) }

// show is the other half of this program: it runs in the terminal and shows a
// scene, over a real socket, until it is ended.
func show(name string) error {
	for _, s := range scenes {
		if s.name == name {
			return s.show()
		}
	}
	return errors.New("there is no scene " + name)
}

func (s scene) show() error {
	socket := os.Getenv("NIGH_SOCKET")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	serving, gone := context.WithCancel(ctx)
	defer gone()
	served := make(chan error, 1)
	if s.alone {
		served <- nil
	} else {
		ln, err := control.Listen(socket)
		if err != nil {
			return err
		}
		agent := still{state: s.state(), gone: gone, yes: make(chan struct{})}
		go func() { served <- control.NewServer(control.Config{Backend: agent}).Serve(serving, ln) }()
	}
	// Still: where clocks go on each second a slow machine never sees the same picture twice.
	o := tui.Options{Client: &control.Client{Socket: socket}, Linear: s.plain, Still: true, Report: func(context.Context, string) error { return nil },
		Remedies: []tui.Remedy{{
			Name: "networkmanager", Does: "Keeps NetworkManager from removing Wi-Fi Direct groups that it did not make, by a D-Bus policy.",
			Lost: "NetworkManager's own Wi-Fi Direct (screen casting) stops working; its Wi-Fi connections do not change.",
			Path: "/etc/dbus-1/system.d/zz-nigh.conf", Text: systemd.KeepPolicy,
			InForce: func() (bool, error) { return false, nil }, Allowed: func() error { return errors.New("only root") },
			Plan: func(context.Context) ([]string, error) { return []string{"systemctl reload dbus"}, nil },
		}}}
	if s.first {
		o.Embedded, o.Service = true, func(context.Context) string { return "sudo /home/ana/nigh/bin/nigh service install" }
	}
	err := tui.Run(ctx, o)
	cancel()
	return errors.Join(err, <-served)
}

// still is an agent in which nothing happens. Only what the pictures need is
// answered; a call that it does not have stops the program.
type still struct {
	control.Backend
	state control.State
	gone  func()        // ends the agent
	yes   chan struct{} // closed when the codes were said to match
}

func (s still) WaitPairing(ctx context.Context, id string) (control.Pairing, error) {
	select {
	case <-s.yes:
		return control.Pairing{ID: id, State: "paired"}, nil
	case <-ctx.Done():
		return control.Pairing{}, ctx.Err()
	}
}

func (s still) Accept(context.Context, string, control.AcceptRequest) error {
	close(s.yes)
	return nil
}

// Find is what the scene of an agent that goes away is made with.
func (s still) Find(context.Context, control.FindRequest) error {
	s.gone()
	return nil
}

func (still) ChangeConfiguration(context.Context, control.SettingsRequest) (control.Configuration, error) {
	return control.Configuration{}, nil
}

func owned(passphrase string) []control.Group {
	return []control.Group{{Ifname: "p2p-wlan0-0", Role: "GO", SSID: "DIRECT-Qk-pi5-kitchen", Frequency: 5180, Clients: 2, Passphrase: passphrase,
		Address: "192.168.49.1/24", LinkLocal: "fe80::1", Persistent: true, Members: []string{"02:1a:7d:da:71:12", "9e:0b:44:10:2f:01"}, Uptime: 2530}}
}

func (still) Groups(context.Context) ([]control.Group, error) { return owned("x7Kq2mPa"), nil }

func (still) SetupCode(context.Context, control.SetupCodeRequest) (control.SetupCode, error) {
	return control.SetupCode{Code: "7Q4K-M2XD-PL9A-TT3C-V"}, nil
}

// Shares, Search, Doctor, Log and the two about messages are what the screens ask for.
func (still) Shares(context.Context) ([]control.Share, error) {
	return []control.Share{
		{Name: "drop", Folder: "/home/ana/drop", For: []control.Member{{ID: id("ana"), Name: "Ana's laptop"}}, State: "ready", Files: 17, Dirs: 2, Bytes: 88_000_000, Hashed: 17, Watched: "inotify"},
		{Name: "photos", Folder: "/srv/photos", State: "ready", Files: 4812, Dirs: 31, Bytes: 21_000_000_000, Hashed: 900, Skipped: 3, Watched: "inotify"},
		{Name: "usb", Folder: "/mnt/usb", State: "missing", Error: "the folder is not there", Hint: "plug the disk in", Watched: "periodic"},
	}, nil
}

func (still) Search(_ context.Context, _ control.SearchRequest, each func(control.SearchAnswer)) (control.SearchAnswer, error) {
	film := control.ShareHolder{Device: control.Member{ID: id("ana"), Name: "Ana's laptop"}, Share: "films", Path: "holiday-4k.mov"}
	copied := control.ShareHolder{Device: control.Member{ID: id("living"), Name: "living-room-pi"}, Share: "copies", Path: "2025/holiday-4k.mov"}
	found := control.SearchAnswer{Asked: 3, Results: []control.ShareEntry{
		{Name: "holiday-4k.mov", Kind: "file", Size: 4_300_000_000, Holders: []control.ShareHolder{film, copied}},
		{Name: "holidays", Kind: "folder", Holders: []control.ShareHolder{{Device: copied.Device, Share: "photos", Path: "2025/holidays"}}},
	}}
	if each != nil {
		each(found)
	}
	return found, nil
}

func (still) Doctor(context.Context) ([]control.Check, error) {
	return []control.Check{
		{ID: "supplicant", State: "ok", Cause: "wpa_supplicant 2.10 answers, Wi-Fi Direct is on"},
		{ID: "firewall", State: "warn", Cause: "firewalld closes UDP 5353 and TCP 7421 in the zone public", Fix: "nigh doctor --fix firewalld"},
		{ID: "manager", State: "fail", Cause: "NetworkManager removes every Wi-Fi Direct group that it did not make", Fix: "sudo nigh doctor --fix networkmanager"},
	}, nil
}

func (still) Log(context.Context) ([]control.LogLine, error) { return logged(), nil }

func logged() []control.LogLine {
	at := time.Now().Add(-time.Minute)
	return []control.LogLine{
		{Time: at, Level: "INFO", Message: "Radio is ready", Attrs: "ifname=wlan0 engine=system"},
		{Time: at.Add(2 * time.Second), Level: "INFO", Message: "Device is near", Attrs: "peer=" + short("ana") + " path=direct ifname=p2p-wlan0-0"},
		{Time: at.Add(3 * time.Second), Level: "WARN", Message: "Forming the group failed", Attrs: "peer=" + short("pixel") + ` err="the other side did not answer"`},
	}
}

func (still) Messages(context.Context, control.MessageQuery) (control.MessagePage, error) {
	return control.MessagePage{}, nil
}

func (still) ReadMessages(context.Context, control.ReadRequest) (control.Unread, error) {
	return control.Unread{}, nil
}

// Watch sends the state and then stays silent, but for a question that was answered.
func (b still) Watch(ctx context.Context, log bool) (<-chan control.Event, func(), error) {
	state := b.state
	if log {
		state.Log = logged()
	}
	events := make(chan control.Event, 2)
	events <- control.Event{Seq: 1, Type: "state", State: &state}
	go func() {
		<-b.yes
		events <- control.Event{Seq: 2, Type: "inbox_gone", Key: "pair-1"}
	}()
	return events, func() {}, nil
}

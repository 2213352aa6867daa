package control_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nigh/agent/control"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv("NIGH_TEST_FOREIGN"); socket != "" {
		foreignMain(socket)
		return
	}
	goleak.VerifyTestMain(m)
}

// backend answers from fields and records what it was asked.
type backend struct {
	mu     sync.Mutex
	asked  []any
	err    error
	panics bool
	events chan control.Event
	block  chan struct{} // Group waits for it, or for its context
	left   chan struct{} // closed when a watcher was given up; may be nil
}

func (b *backend) note(v any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.panics {
		panic("on purpose")
	}
	b.asked = append(b.asked, v)
	return b.err
}

func (b *backend) last() any {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) == 0 {
		return nil
	}
	return b.asked[len(b.asked)-1]
}

var (
	samplePeer          = control.Peer{ID: "AAAA-BBBB-CCCC", Short: "AAAA-BBBB", Name: "Ana's laptop", Trust: "trusted", State: "ready", Paths: []control.Path{{Kind: "direct", Ifname: "p2p-wlan0-0", Address: "[fe80::1%p2p-wlan0-0]:7421", RTT: 2.5, Signal: -48, Active: true}}, Age: 1.5}
	sampleTransfer      = control.Transfer{ID: "00112233445566778899aabbccddeeff", Direction: "send", Peer: samplePeer.ID, PeerName: samplePeer.Name, Name: "photos", Files: 3, BytesTotal: 1000, BytesDone: 10, State: "running", ETA: -1}
	sampleItem          = control.InboxItem{ID: "77", Kind: "transfer", Peer: samplePeer.ID, Trust: "new", Expires: 300, Transfer: &sampleTransfer}
	sampleGroup         = control.Group{Ifname: "p2p-wlan0-0", Role: "GO", SSID: "DIRECT-ab-pi5", Frequency: 2437, Address: "192.168.49.1/24", Passphrase: "secret12"}
	sampleTrusted       = control.Trusted{ID: samplePeer.ID, Short: samplePeer.Short, Name: samplePeer.Name, Trust: "trusted"}
	sampleStatus        = control.Status{ID: "ZZZZ-YYYY", Short: "ZZZZ-YYYY", Name: "pi5", Version: "1.0", Agent: control.AgentInfo{PID: 7, Mode: "service"}, Radio: control.Radio{State: "ready", Ifname: "wlan0"}, Groups: []control.Group{sampleGroup}}
	sampleConfiguration = control.Configuration{Settings: []control.Setting{{Key: "receive", Value: "false", Origin: "/etc/nigh/policy.toml:2", Policy: true}}, Later: []string{"name"}}
	samplePairing       = control.Pairing{ID: "pair-0a1b2c3d", Peer: samplePeer.ID, Short: samplePeer.Short, PeerName: samplePeer.Name, State: "comparing", Code: "482913", Own: true, Expires: 60}
	sampleSetup         = control.SetupCode{Code: "AAAA-BBBB-CCCC-DDDD-E", Locked: 60, Wrong: 3}
	sampleMessage       = control.Message{Seq: 7, ID: "m00112233", Direction: "send", Text: "a\n\tb ü", State: "waiting", To: []control.Recipient{{Peer: samplePeer.ID, PeerName: samplePeer.Name, State: "waiting", Near: true, Error: "x", ErrorCode: "busy", Hint: "y"}}}
	samplePage          = control.MessagePage{Messages: []control.Message{sampleMessage}, More: true, Unread: control.Unread{Read: 3, Count: 2}}
	sampleAddress       = control.Address{Address: "10.0.0.2:7421", ID: samplePeer.ID, Short: samplePeer.Short, Name: samplePeer.Name, Remembered: true}
	sampleLine          = control.LogLine{Time: time.Unix(1, 0).UTC(), Level: "INFO", Message: "Agent starts", Attrs: "port=7421"}
	choice              = control.SettingsRequest{Set: map[string]string{"name": "pi"}, Asked: true}
	sampleCheck         = control.Check{ID: "usable", State: "ok", Cause: "a link is up"}
)

func (b *backend) Status(context.Context) (control.Status, error) {
	return sampleStatus, b.note("status")
}
func (b *backend) Peers(context.Context) ([]control.Peer, error) {
	return []control.Peer{samplePeer}, b.note("peers")
}
func (b *backend) Inbox(context.Context) ([]control.InboxItem, error) {
	return []control.InboxItem{sampleItem}, b.note("inbox")
}
func (b *backend) Accept(_ context.Context, id string, r control.AcceptRequest) error {
	return b.note([]any{"accept", id, r})
}
func (b *backend) Refuse(_ context.Context, id string) error { return b.note([]any{"refuse", id}) }
func (b *backend) Transfers(context.Context) ([]control.Transfer, error) {
	return []control.Transfer{sampleTransfer}, b.note("transfers")
}
func (b *backend) Send(_ context.Context, r control.SendRequest) ([]control.Transfer, error) {
	return []control.Transfer{sampleTransfer}, b.note(r)
}
func (b *backend) CancelTransfer(_ context.Context, id string) error {
	return b.note([]any{"cancel", id})
}
func (b *backend) PauseTransfer(_ context.Context, id string) error {
	return b.note([]any{"pause", id})
}
func (b *backend) ResumeTransfer(_ context.Context, id string) error {
	return b.note([]any{"resume", id})
}
func (b *backend) Messages(_ context.Context, q control.MessageQuery) (control.MessagePage, error) {
	return samplePage, b.note(q)
}
func (b *backend) SendMessage(_ context.Context, r control.MessageRequest) (control.Message, error) {
	return sampleMessage, b.note(r)
}
func (b *backend) CancelMessage(_ context.Context, id string) error {
	return b.note([]any{"cancel message", id})
}
func (b *backend) ReadMessages(_ context.Context, r control.ReadRequest) (control.Unread, error) {
	return samplePage.Unread, b.note(r)
}
func (b *backend) Trust(context.Context) ([]control.Trusted, error) {
	return []control.Trusted{sampleTrusted}, b.note("trust")
}
func (b *backend) ChangeTrust(_ context.Context, r control.TrustRequest) (control.Trusted, error) {
	return sampleTrusted, b.note(r)
}
func (b *backend) ExportTrust(context.Context) (control.TrustDocument, error) {
	return control.TrustDocument{Text: "{<&>}", Devices: 2}, b.note("export")
}
func (b *backend) ImportTrust(_ context.Context, d control.TrustDocument) (control.TrustImport, error) {
	return control.TrustImport{Trusted: 1, Kept: 2}, b.note(d)
}
func (b *backend) Configuration(context.Context) (control.Configuration, error) {
	return sampleConfiguration, b.note("configuration")
}
func (b *backend) ChangeConfiguration(_ context.Context, r control.SettingsRequest) (control.Configuration, error) {
	return sampleConfiguration, b.note(r)
}
func (b *backend) ReloadConfiguration(context.Context) (control.Configuration, error) {
	return sampleConfiguration, b.note("reload")
}
func (b *backend) Pair(_ context.Context, r control.PairRequest) (control.Pairing, error) {
	return samplePairing, b.note(r)
}
func (b *backend) WaitPairing(_ context.Context, id string) (control.Pairing, error) {
	return samplePairing, b.note([]any{"wait pairing", id})
}
func (b *backend) SetupCode(_ context.Context, r control.SetupCodeRequest) (control.SetupCode, error) {
	return sampleSetup, b.note(r)
}
func (b *backend) Addresses(context.Context) ([]control.Address, error) {
	return []control.Address{sampleAddress}, b.note("addresses")
}
func (b *backend) ChangeAddress(_ context.Context, r control.AddressRequest) ([]control.Address, error) {
	return []control.Address{sampleAddress}, b.note(r)
}
func (b *backend) Find(_ context.Context, r control.FindRequest) error { return b.note(r) }
func (b *backend) Groups(context.Context) ([]control.Group, error) {
	return []control.Group{sampleGroup}, b.note("groups")
}
func (b *backend) Group(ctx context.Context, r control.GroupRequest) (control.Group, error) {
	err := b.note(r)
	if b.block != nil {
		select {
		case <-b.block:
		case <-ctx.Done():
			return control.Group{}, ctx.Err()
		}
	}
	return sampleGroup, err
}
func (b *backend) LeaveGroup(_ context.Context, ifname string) error {
	return b.note([]any{"leave", ifname})
}
func (b *backend) Doctor(context.Context) ([]control.Check, error) {
	return []control.Check{sampleCheck}, b.note("doctor")
}
func (b *backend) Log(context.Context) ([]control.LogLine, error) {
	return []control.LogLine{sampleLine}, b.note("log")
}
func (b *backend) Watch(_ context.Context, log bool) (<-chan control.Event, func(), error) {
	asked := "watch"
	if log {
		asked = "watch log"
	}
	return b.events, func() {
		if b.left != nil {
			close(b.left)
		}
	}, b.note(asked)
}

// serve runs a server for b and returns its socket and a function that stops it
// and returns what Serve returned.
func serve(t *testing.T, b control.Backend) (socket string, stop func() error) {
	t.Helper()
	socket = filepath.Join(folder(t), "agent.sock")
	ln, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	return socket, serveOn(t, b, ln)
}

func serveOn(t *testing.T, b control.Backend, ln net.Listener) (stop func() error) {
	t.Helper()
	return run(t, control.NewServer(control.Config{Backend: b}), ln)
}

func run(t *testing.T, s *control.Server, ln net.Listener) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// folder is a short t.TempDir: a socket's path is limited.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "nigh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestEveryRoute(t *testing.T) {
	b := &backend{}
	socket, _ := serve(t, b)
	c := &control.Client{Socket: socket}
	ctx := deadline(t)
	yes, intent := true, 15
	send := control.SendRequest{Paths: []string{"/a b/ü"}, To: []string{"Ana's laptop"}, Name: "x"}
	trust := control.TrustRequest{Action: "set", Device: "ana", AutoAccept: &yes}
	unshared := control.ShareChange{For: &[]string{}}
	query := control.MessageQuery{Since: 1 << 60, Before: 3, Oldest: true, Limit: 5, Search: "a&b=ü ?", From: "Ana's laptop", Waiting: true}
	say := control.MessageRequest{Text: "a\n<\tb>", To: []string{"ana"}, All: true}
	group := control.GroupRequest{Action: "join", Device: "ana", Intent: &intent}
	status := sampleStatus
	openGroup := sampleGroup
	openGroup.Passphrase = ""
	status.Groups = []control.Group{openGroup}
	status.Links = []control.Link{}
	for _, tt := range []struct {
		name  string
		call  func() (any, error)
		asked any
		want  any
	}{
		{"status", func() (any, error) { return c.Status(ctx) }, "status", status},
		{"peers", func() (any, error) { return c.Peers(ctx) }, "peers", []control.Peer{samplePeer}},
		{"inbox", func() (any, error) { return c.Inbox(ctx) }, "inbox", []control.InboxItem{sampleItem}},
		{"accept", func() (any, error) { return nil, c.Accept(ctx, "7 7/../x", control.AcceptRequest{Into: "/x"}) }, []any{"accept", "7 7/../x", control.AcceptRequest{Into: "/x"}}, nil},
		{"refuse", func() (any, error) { return nil, c.Refuse(ctx, "77") }, []any{"refuse", "77"}, nil},
		{"transfers", func() (any, error) { return c.Transfers(ctx) }, "transfers", []control.Transfer{sampleTransfer}},
		{"send", func() (any, error) { return c.Send(ctx, send) }, send, []control.Transfer{sampleTransfer}},
		{"cancel", func() (any, error) { return nil, c.CancelTransfer(ctx, "00") }, []any{"cancel", "00"}, nil},
		{"pause", func() (any, error) { return nil, c.PauseTransfer(ctx, "00") }, []any{"pause", "00"}, nil},
		{"resume", func() (any, error) { return nil, c.ResumeTransfer(ctx, "00") }, []any{"resume", "00"}, nil},
		{"messages", func() (any, error) { return c.Messages(ctx, control.MessageQuery{}) }, control.MessageQuery{}, samplePage},
		{"some messages", func() (any, error) { return c.Messages(ctx, query) }, query, samplePage},
		{"send a message", func() (any, error) { return c.SendMessage(ctx, say) }, say, sampleMessage},
		{"cancel a message", func() (any, error) { return nil, c.CancelMessage(ctx, "m0/../1") }, []any{"cancel message", "m0/../1"}, nil},
		{"read messages", func() (any, error) { return c.ReadMessages(ctx, control.ReadRequest{Seq: 1 << 60}) }, control.ReadRequest{Seq: 1 << 60}, samplePage.Unread},
		{"trust", func() (any, error) { return c.Trust(ctx) }, "trust", []control.Trusted{sampleTrusted}},
		{"change trust", func() (any, error) { return c.ChangeTrust(ctx, trust) }, trust, sampleTrusted},
		{"export trust", func() (any, error) { return c.ExportTrust(ctx) }, "export", control.TrustDocument{Text: "{<&>}", Devices: 2}},
		{"import trust", func() (any, error) { return c.ImportTrust(ctx, control.TrustDocument{Text: "{<&>}"}) }, control.TrustDocument{Text: "{<&>}"}, control.TrustImport{Trusted: 1, Kept: 2}},
		{"configuration", func() (any, error) { return c.Configuration(ctx) }, "configuration", sampleConfiguration},
		{"change the configuration", func() (any, error) { return c.ChangeConfiguration(ctx, choice) }, choice, sampleConfiguration},
		{"reload the configuration", func() (any, error) { return c.ReloadConfiguration(ctx) }, "reload", sampleConfiguration},
		{"pair", func() (any, error) { return c.Pair(ctx, control.PairRequest{Device: "ana", Code: "x"}) }, control.PairRequest{Device: "ana", Code: "x"}, samplePairing},
		{"wait for a pairing", func() (any, error) { return c.WaitPairing(ctx, "pair-0a/..") }, []any{"wait pairing", "pair-0a/.."}, samplePairing},
		{"setup code", func() (any, error) { return c.SetupCode(ctx, control.SetupCodeRequest{New: true}) }, control.SetupCodeRequest{New: true}, sampleSetup},
		{"addresses", func() (any, error) { return c.Addresses(ctx) }, "addresses", []control.Address{sampleAddress}},
		{"change addresses", func() (any, error) {
			return c.ChangeAddress(ctx, control.AddressRequest{Action: "add", Address: "nas.lan"})
		}, control.AddressRequest{Action: "add", Address: "nas.lan"}, []control.Address{sampleAddress}},
		{"find", func() (any, error) { return nil, c.Find(ctx, control.FindRequest{Seconds: 2.5}) }, control.FindRequest{Seconds: 2.5}, nil},
		{"groups", func() (any, error) { return c.Groups(ctx) }, "groups", []control.Group{sampleGroup}},
		{"group", func() (any, error) { return c.Group(ctx, group) }, group, sampleGroup},
		{"leave", func() (any, error) { return nil, c.LeaveGroup(ctx, "p2p-wlan0-0") }, []any{"leave", "p2p-wlan0-0"}, nil},
		{"shares", func() (any, error) { return c.Shares(ctx) }, "shares", []control.Share{sampleShare}},
		{"add share", func() (any, error) { return c.AddShare(ctx, control.ShareRequest{Folder: "/srv"}) }, control.ShareRequest{Folder: "/srv"}, sampleShare},
		{"change share", func() (any, error) { return c.ChangeShare(ctx, "a/ü ?", unshared) }, []any{"change share", "a/ü ?", unshared}, sampleShare},
		{"remove share", func() (any, error) { return nil, c.RemoveShare(ctx, "a/ü ?") }, []any{"remove share", "a/ü ?"}, nil},
		{"browse", func() (any, error) { return c.Browse(ctx, control.BrowseRequest{Device: "ana", Share: "photos"}) }, control.BrowseRequest{Device: "ana", Share: "photos"}, sampleListing},
		{"search", func() (any, error) { return c.Search(ctx, control.SearchRequest{Query: "a"}) }, control.SearchRequest{Query: "a"}, control.SearchAnswer{Results: []control.ShareEntry{sampleEntry}, Asked: 2}},
		{"search as it comes", func() (any, error) {
			n := 0
			last, err := c.SearchEach(ctx, control.SearchRequest{Query: "a"}, func(list []control.ShareEntry) error {
				n += len(list)
				return nil
			})
			if last.Asked != 2 {
				t.Errorf("the last answer is %+v", last)
			}
			return n, err
		}, control.SearchRequest{Query: "a"}, 3},
		{"get", func() (any, error) { return c.Get(ctx, control.GetRequest{Hash: "af13", From: []string{"ana"}}) }, control.GetRequest{Hash: "af13", From: []string{"ana"}}, sampleTransfer},
		{"doctor", func() (any, error) { return c.Doctor(ctx) }, "doctor", []control.Check{sampleCheck}},
		{"log", func() (any, error) { return c.Log(ctx) }, "log", []control.LogLine{sampleLine}},
	} {
		got, err := tt.call()
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s = %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
		if asked := b.last(); !reflect.DeepEqual(asked, tt.asked) {
			t.Errorf("%s reached the backend as %+v, want %+v", tt.name, asked, tt.asked)
		}
	}
}

// A method that a Backend gains must be reachable by a Client.
func TestClientHasEveryBackendMethod(t *testing.T) {
	face := reflect.TypeFor[control.Backend]()
	client := reflect.TypeFor[*control.Client]()
	for i := range face.NumMethod() {
		if _, ok := client.MethodByName(face.Method(i).Name); !ok {
			t.Errorf("Client has no %s", face.Method(i).Name)
		}
	}
}

func TestErrorsTravel(t *testing.T) {
	b := &backend{}
	socket, stop := serve(t, b)
	c := &control.Client{Socket: socket}
	for _, code := range []string{
		control.CodeFailed, control.CodeUsage, control.CodeRefused, control.CodeNotFound, control.CodeAway,
		control.CodeAmbiguous, control.CodeTimeout, control.CodePermission, control.CodePartial, control.CodeBusy,
		control.CodeNoRadio, control.CodeUnreadable, control.CodeDiskFull,
	} {
		sent := &control.Error{Code: code, Message: "m", Hint: "h"}
		b.err = sent
		_, err := c.Status(deadline(t))
		if got, ok := errors.AsType[*control.Error](err); !ok || *got != *sent {
			t.Errorf("%s came back as %#v", code, err)
		}
	}
	b.err = errors.New("the database has \x1b[31m in it")
	_, err := c.Status(deadline(t))
	if got, ok := errors.AsType[*control.Error](err); !ok || got.Code != control.CodeInternal || got.Hint == "" || len(got.Message) > 40 {
		t.Errorf("an unknown error came back as %#v", err)
	}
	b.err, b.panics = nil, true
	_, err = c.Status(deadline(t))
	if got, ok := errors.AsType[*control.Error](err); !ok || got.Code != control.CodeInternal {
		t.Errorf("a panic came back as %#v", err)
	}
	b.panics = false
	if _, err := c.Status(deadline(t)); err != nil {
		t.Errorf("after a panic: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	_, err = c.Status(deadline(t))
	if got, ok := errors.AsType[*control.Error](err); !ok || got.Code != control.CodeNoAgent || got.Message != "the agent is not running" || got.Exit() != 6 {
		t.Errorf("without an agent: %#v", err)
	}
}

func TestContexts(t *testing.T) {
	b := &backend{block: make(chan struct{})}
	socket, stop := serve(t, b)
	c := &control.Client{Socket: socket}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Group(short, control.GroupRequest{Action: "create"})
	if !errors.Is(err, &control.Error{Code: control.CodeTimeout}) {
		t.Errorf("past its deadline: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Group(gone, control.GroupRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// A blocked call ends when the agent stops, and does not hold the agent up.
	result := make(chan error, 1)
	go func() {
		_, err := c.Group(context.Background(), control.GroupRequest{Action: "invite"})
		result <- err
	}()
	waitFor(t, func() bool {
		r, ok := b.last().(control.GroupRequest)
		return ok && r.Action == "invite"
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-result; err == nil {
		t.Error("a call that the agent gave up succeeded")
	}
}

// waitFor waits until ok holds, looking again after each millisecond.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come to pass")
		}
	}
}

// Something else on the socket, or an agent of another version, is said to be that.
func TestNotThisAgent(t *testing.T) {
	for _, tt := range []struct{ name, answer, code, text string }{
		{"web server", "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", control.CodeFailed, "not a nigh agent"},
		{"next version", "HTTP/1.1 200 OK\r\nNigh-Api: 2\r\nContent-Length: 3\r\n\r\n{}\n", control.CodeFailed, "version"},
		{"no version", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n", control.CodeFailed, "version"},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", control.CodeFailed, "not a nigh agent"},
		{"half an answer", "HTTP/1.1 200 OK\r\nNigh-Api: 1\r\nContent-Length: 99\r\n\r\n{\"id\":", control.CodeNoAgent, "in the middle"},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n", control.CodeNoAgent, "in the middle"},
	} {
		socket := filepath.Join(folder(t), "agent.sock")
		ln, err := control.Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			buf := make([]byte, 4096)
			_, _ = conn.Read(buf)
			_, _ = conn.Write([]byte(tt.answer))
		}()
		_, err = (&control.Client{Socket: socket}).Status(deadline(t))
		if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != tt.code || !strings.Contains(e.Message, tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
		ln.Close()
		<-done
	}
}

func TestErrorTables(t *testing.T) {
	for code, want := range map[string]struct{ status, exit int }{
		control.CodeFailed:     {500, 1},
		control.CodeUsage:      {400, 2},
		control.CodeAmbiguous:  {400, 2},
		control.CodeUnreadable: {400, 1},
		control.CodeRefused:    {403, 3},
		control.CodeNotFound:   {404, 4},
		control.CodeAway:       {404, 4},
		control.CodeTimeout:    {504, 5},
		control.CodeNoAgent:    {500, 6},
		control.CodePermission: {403, 7},
		control.CodePartial:    {500, 8},
		control.CodeBusy:       {409, 1},
		control.CodeNoRadio:    {409, 1},
		control.CodeDiskFull:   {507, 1},
		"of next year":         {500, 1},
	} {
		e := &control.Error{Code: code}
		if e.Status() != want.status || e.Exit() != want.exit {
			t.Errorf("%s: status %d, exit %d; want %+v", code, e.Status(), e.Exit(), want)
		}
	}
}

func TestPeerKey(t *testing.T) {
	for want, p := range map[string]control.Peer{
		"AAAA":                     {ID: "AAAA", Name: "x", Paths: []control.Path{{Kind: "direct", Address: "02:00:00:00:00:01"}}},
		"direct:02:00:00:00:00:01": {Name: "x", Paths: []control.Path{{Kind: "lan", Address: "192.168.1.1:1"}, {Kind: "direct", Address: "02:00:00:00:00:01"}}},
		"name:x":                   {Name: "x"},
	} {
		if got := p.Key(); got != want {
			t.Errorf("Key() = %q, want %q", got, want)
		}
	}
}

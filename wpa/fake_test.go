package wpa

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nigh/wpa/dbusapi"
)

// fake stands in for the supplicant at message level: it records calls, answers them as told, and says what a test has it
// say. It knows nothing of P2P, and is there for the machine's timers under synctest: what real supplicants do is tested on real
// ones (*_radio_test.go) and on recorded ones (package wpatest). It is held to them by TestRecordedSignals, which checks that what
// tests have it say comes in the order of the recordings, and that the machine on it comes to the same ends with them.
type fake struct {
	ready chan struct{}

	mu      sync.Mutex
	signals []dbusapi.Signal
	calls   []string
	fail    map[string]error // by method
	present bool
	caps    []string
	ifaces  map[dbusapi.Path]dbusapi.Interface
	peers   map[dbusapi.Path]dbusapi.Peer
	owners  map[string]bool // other names on the bus
	config  dbusapi.Config
	methods string
	group   dbusapi.Group
	bssid   net.HardwareAddr

	stations []net.HardwareAddr
	nowhere  bool // CurrentBSS has none
	silent   bool // Find is never answered
	stored   map[dbusapi.Path]dbusapi.Persistent
	held     chan struct{} // Capabilities waits until it is closed
	listing  chan struct{} // Interfaces has its answer, and waits until it is closed
}

const (
	fakeOwner = dbusapi.Root + "/Interfaces/0"
	fakeGroup = dbusapi.Root + "/Interfaces/1"
)

var fakePeer = net.HardwareAddr{0x42, 0, 0, 0, 1, 0}

func newFake() *fake {
	return &fake{
		ready: make(chan struct{}, 1), fail: map[string]error{}, present: true, caps: []string{"p2p"},
		ifaces: map[dbusapi.Path]dbusapi.Interface{fakeOwner: {Path: fakeOwner, Ifname: "wlan9", P2P: true, Role: "device"}},
		peers:  map[dbusapi.Path]dbusapi.Peer{}, owners: map[string]bool{},
		config: dbusapi.Config{DeviceName: "before", DeviceType: make([]byte, 8), GOIntent: 3}, methods: "nfc",
		group: dbusapi.Group{SSID: "DIRECT-xy", Frequency: 2437, Passphrase: "12345678", BSSID: net.HardwareAddr{2, 0, 0, 0, 9, 0}},
	}
}

func (f *fake) say(signals ...dbusapi.Signal) {
	f.mu.Lock()
	f.signals = append(f.signals, signals...)
	f.mu.Unlock()
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

func (f *fake) call(method string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, strings.TrimSpace(method+" "+strings.TrimSpace(fmt.Sprintln(args...))))
	return f.fail[method]
}

// called returns the calls since the last time that begin with prefix.
func (f *fake) called(prefix string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, c := range f.calls {
		if strings.HasPrefix(c, prefix) {
			out = append(out, c)
		}
	}
	return out
}

func (f *fake) Ready() <-chan struct{} { return f.ready }
func (f *fake) Next() []dbusapi.Signal {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.signals
	f.signals = nil
	return s
}
func (f *fake) Close() error                             { return nil }
func (f *fake) Instance(context.Context) (string, error) { return ":1.7 42", nil }
func (f *fake) Present(context.Context) (bool, error)    { return f.present, f.call("Present") }
func (f *fake) HasOwner(_ context.Context, n string) (bool, error) {
	return f.owners[n], f.call("HasOwner", n)
}
func (f *fake) Activate(context.Context) error { return f.call("Activate") }
func (f *fake) Capabilities(ctx context.Context) ([]string, error) {
	f.mu.Lock()
	held := f.held
	f.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
	return f.caps, f.call("Capabilities")
}
func (f *fake) Interfaces(ctx context.Context) ([]dbusapi.Path, error) {
	f.mu.Lock()
	var out []dbusapi.Path
	for p := range f.ifaces {
		out = append(out, p)
	}
	listing := f.listing
	f.mu.Unlock()
	if listing != nil {
		select {
		case <-listing:
		case <-ctx.Done():
		}
	}
	return out, nil
}
func (f *fake) GetInterface(_ context.Context, n string) (dbusapi.Path, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, i := range f.ifaces {
		if i.Ifname == n {
			return p, nil
		}
	}
	return "", dbusapi.ErrUnknownInterface
}
func (f *fake) CreateInterface(_ context.Context, n string) (dbusapi.Path, error) {
	return "", f.call("CreateInterface", n)
}
func (f *fake) RemoveInterface(_ context.Context, p dbusapi.Path) error {
	return f.call("RemoveInterface", p)
}
func (f *fake) Interface(_ context.Context, p dbusapi.Path) (dbusapi.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.ifaces[p]
	if !ok {
		return i, dbusapi.ErrUnknownObject
	}
	return i, nil
}
func (f *fake) ConfigMethods(context.Context, dbusapi.Path) (string, error) { return f.methods, nil }
func (f *fake) SetConfigMethods(_ context.Context, _ dbusapi.Path, s string) error {
	return f.call("SetConfigMethods", s)
}
func (f *fake) Config(context.Context, dbusapi.Path) (dbusapi.Config, error) {
	return f.config, f.call("Config")
}
func (f *fake) SetConfig(_ context.Context, _ dbusapi.Path, k dbusapi.Key) error {
	return f.call("SetConfig", k)
}
func (f *fake) Peers(context.Context, dbusapi.Path) ([]dbusapi.Path, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []dbusapi.Path
	for p := range f.peers {
		out = append(out, p)
	}
	return out, nil
}
func (f *fake) Peer(_ context.Context, p dbusapi.Path) (dbusapi.Peer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.peers[p]
	if !ok {
		return v, dbusapi.ErrUnknownObject
	}
	return v, nil
}
func (f *fake) GroupObject(_ context.Context, p dbusapi.Path) (dbusapi.Path, error) {
	return p + "/Groups/xy", nil
}
func (f *fake) Group(_ context.Context, p dbusapi.Path) (dbusapi.Group, error) {
	err := f.call("Group", p)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.group, err
}
func (f *fake) Stations(context.Context, dbusapi.Path) ([]net.HardwareAddr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.stations), nil
}
func (f *fake) AbortScan(_ context.Context, p dbusapi.Path) error { return f.call("AbortScan", p) }
func (f *fake) CurrentBSS(context.Context, dbusapi.Path) (net.HardwareAddr, int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nowhere {
		return nil, 0, nil
	}
	return f.bssid, 2462, nil
}
func (f *fake) PersistentGroups(context.Context, dbusapi.Path) ([]dbusapi.Path, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []dbusapi.Path
	for p := range f.stored {
		out = append(out, p)
	}
	return out, nil
}
func (f *fake) Persistent(_ context.Context, p dbusapi.Path) (dbusapi.Persistent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stored[p], nil
}
func (f *fake) AddPersistent(_ context.Context, o dbusapi.Path, p dbusapi.Persistent, _ net.HardwareAddr) (dbusapi.Path, error) {
	return o + "/PersistentGroups/7", f.call("AddPersistent", p.SSID)
}
func (f *fake) RemovePersistent(_ context.Context, _, p dbusapi.Path) error {
	return f.call("RemovePersistent", p)
}
func (f *fake) Find(ctx context.Context, _ dbusapi.Path, kind string, s int) error {
	f.mu.Lock()
	silent := f.silent
	f.mu.Unlock()
	if silent {
		<-ctx.Done()
	}
	return f.call("Find", kind, s)
}
func (f *fake) StopFind(context.Context, dbusapi.Path) error { return f.call("StopFind") }
func (f *fake) ExtendedListen(_ context.Context, _ dbusapi.Path, period, interval time.Duration) error {
	return f.call("ExtendedListen", period, interval)
}

func (f *fake) Listen(_ context.Context, _ dbusapi.Path, s int) error {
	return f.call("Listen", s)
}
func (f *fake) Connect(_ context.Context, _ dbusapi.Path, a dbusapi.ConnectArgs) (string, error) {
	return "00000000", f.call("Connect", a.WPS, "join", a.Join, "intent", a.Intent)
}
func (f *fake) GroupAdd(_ context.Context, _ dbusapi.Path, freq int, p bool, _ dbusapi.Path) error {
	return f.call("GroupAdd", freq, p)
}
func (f *fake) Cancel(context.Context, dbusapi.Path) error { return f.call("Cancel") }
func (f *fake) Invite(_ context.Context, on, _, profile dbusapi.Path) error {
	return f.call("Invite", on, profile)
}
func (f *fake) Disconnect(_ context.Context, p dbusapi.Path) error { return f.call("Disconnect", p) }
func (f *fake) RejectPeer(_ context.Context, _, p dbusapi.Path) error {
	return f.call("RejectPeer", p)
}
func (f *fake) Flush(context.Context, dbusapi.Path) error { return f.call("Flush") }
func (f *fake) ProvisionDiscovery(_ context.Context, _, _ dbusapi.Path, m string) error {
	return f.call("ProvisionDiscovery", m)
}
func (f *fake) AddService(_ context.Context, _ dbusapi.Path, query, response []byte) error {
	return f.call("AddService", fmt.Sprintf("%x %x", query, response))
}
func (f *fake) DeleteService(_ context.Context, _ dbusapi.Path, query []byte) error {
	return f.call("DeleteService", fmt.Sprintf("%x", query))
}
func (f *fake) ServiceUpdate(context.Context, dbusapi.Path) error { return f.call("ServiceUpdate") }
func (f *fake) RequestServices(_ context.Context, _, peer dbusapi.Path, tlv []byte) (uint64, error) {
	return 7, f.call("RequestServices", peer, fmt.Sprintf("%x", tlv))
}
func (f *fake) CancelServices(_ context.Context, _ dbusapi.Path, request uint64) error {
	return f.call("CancelServices", request)
}
func (f *fake) CloseWPS(_ context.Context, g dbusapi.Path) error { return f.call("CloseWPS", g) }
func (f *fake) SetGroupVendor(_ context.Context, o dbusapi.Path, v [][]byte) error {
	return f.call("SetGroupVendor", o, v)
}
func (f *fake) OpenWPS(_ context.Context, g dbusapi.Path, _ net.HardwareAddr, pin string) error {
	return f.call("OpenWPS", g, pin)
}

// world is a Radio on a fake, inside a synctest bubble.
type world struct {
	*Radio
	t      *testing.T
	fake   *fake
	mu     sync.Mutex
	told   []Event // guarded by mu
	done   chan error
	cancel context.CancelFunc
	reads  sync.WaitGroup

	last        *outcome           // the newest formation in the background
	stopForming context.CancelFunc // ends its context
}

func testLogger(to io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(to, nil)) }

// inWorld runs f with a Radio whose timers are the bubble's.
func inWorld(t *testing.T, cfg Config, change func(*fake), f func(*world)) {
	t.Helper()
	inWorldOf(t, EngineSystem, cfg, change, f)
}

// inWorldOf is inWorld with another engine's limits.
func inWorldOf(t *testing.T, engine Engine, cfg Config, change func(*fake), f func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if err := cfg.check(); err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, fake: newFake(), done: make(chan error, 1)}
		if change != nil {
			change(w.fake)
		}
		w.Radio = newRadio(cfg, Choice{Engine: engine}, w.fake)
		ctx, cancel := context.WithCancel(context.Background())
		w.cancel = cancel
		w.reads.Go(func() {
			for e := range w.Events() {
				w.mu.Lock()
				w.told = append(w.told, e)
				w.mu.Unlock()
			}
		})
		go func() { w.done <- w.Run(ctx) }()
		w.wait()
		f(w)
		cancel()
		if err := <-w.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.reads.Wait()
	})
}

func (w *world) wait() { synctest.Wait() }

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) // the bubble's time
	w.wait()
}

// say has the supplicant say something and waits until it is dealt with.
func (w *world) say(s ...dbusapi.Signal) {
	w.fake.say(s...)
	w.wait()
}

func peerPath(addr net.HardwareAddr) dbusapi.Path {
	return fakeOwner + "/Peers/" + dbusapi.Path(hex.EncodeToString(addr))
}

// near makes a peer known.
func (w *world) near(capab byte) {
	p := dbusapi.Peer{Name: "other", Address: fakePeer, GroupCapab: capab}
	w.fake.mu.Lock()
	w.fake.peers[peerPath(fakePeer)] = p
	w.fake.mu.Unlock()
	w.say(dbusapi.DeviceFound{Path: peerPath(fakePeer), Peer: p})
}

// groupUp has a group start.
func (w *world) groupUp(owner bool, local string) {
	w.groupOf(owner, local, false)
}

func (w *world) groupOf(owner bool, local string, persistent bool) {
	w.fake.mu.Lock()
	w.fake.ifaces[fakeGroup] = dbusapi.Interface{Path: fakeGroup, Ifname: "p2p-wlan9-0"}
	w.fake.mu.Unlock()
	s := dbusapi.GroupStarted{Interface: fakeGroup, Group: fakeGroup + "/Groups/xy", Owner: owner, Persistent: persistent}
	if local != "" {
		s.Local = netip.MustParseAddr(local)
	}
	w.say(dbusapi.InterfaceAdded{Path: fakeGroup, Ifname: "p2p-wlan9-0"}, s)
}

func (w *world) joined(left bool) {
	w.say(dbusapi.MemberJoined{Group: fakeGroup + "/Groups/xy", Peer: peerPath(fakePeer), Left: left})
}

// events returns all that was told so far.
func (w *world) events() []Event {
	w.wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// ask runs f on the machine's goroutine and waits for it.
func (w *world) ask(f func(*machine)) {
	done := make(chan struct{})
	w.in.command(func(m *machine) { f(m); close(done) })
	<-done
}

// where says which state a machine is in, in the words of the table in the package documentation.
func (w *world) where(which string) (state string) {
	w.wait()
	w.ask(func(m *machine) { state = m.where(which) })
	return state
}

func (m *machine) where(which string) string {
	switch which {
	case "supplicant":
		return map[State]string{Absent: "Absent", Starting: "Starting", NoP2P: "NoP2P", Ready: "Ready", Off: "Off"}[m.state]
	case "discovery":
		return m.disc.stage.String()
	case "formation":
		if m.form == nil {
			return "Idle"
		}
		return m.form.stage.String()
	case "group":
		for _, g := range m.groups {
			return g.state.String()
		}
		return "Gone"
	}
	return "?"
}

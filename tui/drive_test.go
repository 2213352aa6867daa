package tui

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"nigh/agent/control"
	"nigh/tui/theme"
)

var update = flag.Bool("update", false, "rewrite the golden files and KEYS.md")

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	time.Local = time.UTC
	os.Exit(m.Run())
}

// fakeAgent answers at the level of the control API's messages.
type fakeAgent struct {
	mu     sync.Mutex
	state  control.State
	down   error // what Watch answers
	events chan control.Event
	seq    uint64
	calls  []string
	fail   error // what every verb answers
	made   []control.Transfer
	group  chan error // Group waits for it when it is not nil

	pairing control.Pairing     // what Pair answers
	code    control.SetupCode   // what SetupCode answers
	page    control.MessagePage // what Messages answers
	shares  []control.Share
	checks  []control.Check
	groups  []control.Group // what Groups answers
	log     []control.LogLine
	listing map[string]control.Listing // what Browse answers, by share, path and after
	found   control.SearchAnswer
	begin   chan error // Pair waits for it when it is not nil
	outcome chan error // WaitPairing waits for it, or for the end when it is nil
}

func (f *fakeAgent) WatchLog(ctx context.Context) (<-chan control.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return nil, f.down
	}
	f.events = make(chan control.Event, 64)
	f.seq++
	st := f.state
	st.Log = append([]control.LogLine{}, f.log...)
	f.events <- control.Event{Seq: f.seq, Type: "state", State: &st}
	return f.events, nil
}

// emit sends one event with the next number.
func (f *fakeAgent) emit(e control.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	e.Seq = f.seq
	f.events <- e
}

// stop ends the stream, as when the agent was killed.
func (f *fakeAgent) stop(down error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	close(f.events)
}

func (f *fakeAgent) called(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.fail
}

func (f *fakeAgent) Send(_ context.Context, r control.SendRequest) ([]control.Transfer, error) {
	return f.made, f.called("send %v to %v", r.Paths, r.To)
}
func (f *fakeAgent) Accept(_ context.Context, id string, r control.AcceptRequest) error {
	return f.called("accept %s %+v", id, r)
}
func (f *fakeAgent) Refuse(_ context.Context, id string) error { return f.called("refuse %s", id) }
func (f *fakeAgent) CancelTransfer(_ context.Context, id string) error {
	return f.called("cancel %s", id)
}
func (f *fakeAgent) PauseTransfer(_ context.Context, id string) error {
	return f.called("pause %s", id)
}
func (f *fakeAgent) ResumeTransfer(_ context.Context, id string) error {
	return f.called("resume %s", id)
}
func (f *fakeAgent) ChangeTrust(_ context.Context, r control.TrustRequest) (control.Trusted, error) {
	set := ""
	if r.AutoAccept != nil {
		set = fmt.Sprintf(" auto=%v", *r.AutoAccept)
	}
	return control.Trusted{}, f.called("trust %s %s%s", r.Action, shortID(r.Device), set)
}
func (f *fakeAgent) Pair(ctx context.Context, r control.PairRequest) (control.Pairing, error) {
	device := r.Device
	if len(device) > 20 {
		device = shortID(device)
	}
	if err := f.called("pair %s %s", device, r.Code); err != nil {
		return control.Pairing{}, err
	}
	if f.begin != nil {
		select {
		case err := <-f.begin:
			if err != nil {
				return control.Pairing{}, err
			}
		case <-ctx.Done():
			f.called("pair given up")
			return control.Pairing{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pairing, nil
}
func (f *fakeAgent) WaitPairing(ctx context.Context, id string) (control.Pairing, error) {
	select {
	case err := <-f.outcome:
		return control.Pairing{ID: id, State: "paired"}, err
	case <-ctx.Done():
		return control.Pairing{}, ctx.Err()
	}
}
func (f *fakeAgent) Find(_ context.Context, r control.FindRequest) error {
	return f.called("find %v", r.Seconds)
}
func (f *fakeAgent) Group(ctx context.Context, r control.GroupRequest) (control.Group, error) {
	if err := f.called("group %s device=%s band=%s persistent=%v method=%s pin=%s", r.Action, r.Device, r.Band, r.Persistent, r.Method, r.PIN); err != nil {
		return control.Group{}, err
	}
	if f.group == nil {
		return control.Group{}, nil
	}
	select {
	case err := <-f.group:
		return control.Group{}, err
	case <-ctx.Done():
		f.called("group given up")
		return control.Group{}, ctx.Err()
	}
}
func (f *fakeAgent) Messages(_ context.Context, q control.MessageQuery) (control.MessagePage, error) {
	err := f.called("messages before %d", q.Before)
	return f.page, err
}
func (f *fakeAgent) SendMessage(_ context.Context, r control.MessageRequest) (control.Message, error) {
	to := make([]string, 0, len(r.To))
	for _, id := range r.To {
		to = append(to, shortID(id))
	}
	return control.Message{}, f.called("message %q to %v all=%v", r.Text, to, r.All)
}
func (f *fakeAgent) CancelMessage(_ context.Context, id string) error {
	return f.called("cancel message %s", id)
}
func (f *fakeAgent) ReadMessages(_ context.Context, r control.ReadRequest) (control.Unread, error) {
	return control.Unread{}, f.called("read %d", r.Seq)
}
func (f *fakeAgent) Doctor(context.Context) ([]control.Check, error) {
	err := f.called("doctor")
	return slices.Clone(f.checks), err
}
func (f *fakeAgent) Shares(context.Context) ([]control.Share, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.shares), nil
}
func (f *fakeAgent) AddShare(_ context.Context, r control.ShareRequest) (control.Share, error) {
	return control.Share{}, f.called("share %s for %v", r.Folder, r.For)
}
func (f *fakeAgent) ChangeShare(_ context.Context, name string, r control.ShareChange) (control.Share, error) {
	text := ""
	now := control.Share{Name: name}
	if r.Name != nil {
		now.Name = *r.Name
		text += " name=" + *r.Name
	}
	if r.For != nil {
		text += " for"
		for _, id := range *r.For {
			text += " " + shortID(id)
		}
	}
	if r.Hidden != nil {
		text += fmt.Sprintf(" hidden=%v", *r.Hidden)
	}
	return now, f.called("change share %s%s", name, text)
}
func (f *fakeAgent) RemoveShare(_ context.Context, name string) error {
	return f.called("unshare %s", name)
}
func (f *fakeAgent) Browse(_ context.Context, r control.BrowseRequest) (control.Listing, error) {
	err := f.called("browse %s %q %q after %q", shortID(r.Device), r.Share, r.Path, r.After)
	return f.listing[r.Share+"/"+r.Path+"/"+r.After], err
}
func (f *fakeAgent) SearchEach(_ context.Context, r control.SearchRequest, each func([]control.ShareEntry) error) (control.SearchAnswer, error) {
	// Each result from a device of its own, and the first once more.
	for i := range f.found.Results {
		if err := each(f.found.Results[i : i+1]); err != nil {
			return control.SearchAnswer{}, err
		}
	}
	last := f.found
	if len(last.Results) > 0 {
		if err := each(last.Results[:1]); err != nil {
			return control.SearchAnswer{}, err
		}
	}
	last.Results = nil
	return last, f.called("search %q", r.Query)
}
func (f *fakeAgent) Get(_ context.Context, r control.GetRequest) (control.Transfer, error) {
	var from []string
	for _, id := range r.From {
		from = append(from, shortID(id))
	}
	return control.Transfer{}, f.called("get %s %q %q hash %q from %v", shortID(r.Device), r.Share, r.Path, r.Hash, from)
}
func (f *fakeAgent) SetupCode(_ context.Context, r control.SetupCodeRequest) (control.SetupCode, error) {
	if r.New {
		f.code = control.SetupCode{Code: "NEW4-NEW4-NEW4-NEW4-N"}
	}
	return f.code, f.called("setup code new:%v", r.New)
}
func (f *fakeAgent) ChangeConfiguration(_ context.Context, r control.SettingsRequest) (control.Configuration, error) {
	err := f.called("configure %v asked=%v", r.Set, r.Asked)
	if err == nil && r.Asked {
		s := f.state.Status
		s.FirstRun = false
		f.emit(control.Event{Type: "status", Status: &s})
	}
	return control.Configuration{}, err
}
func (f *fakeAgent) Groups(context.Context) ([]control.Group, error) {
	return f.groups, f.called("groups")
}
func (f *fakeAgent) LeaveGroup(_ context.Context, ifname string) error {
	return f.called("leave %s", ifname)
}

// ui drives an app inside a synctest bubble: commands run in goroutines, their
// messages come back, and time goes on only when a test says so.
type ui struct {
	t       *testing.T
	a       *app
	agent   *fakeAgent
	msgs    chan tea.Msg
	done    chan struct{}
	quit    bool
	suspend bool
	rings   atomic.Int32
	cancel  context.CancelFunc
}

// drive runs fn on a started app of 80x24.
func drive(t *testing.T, agent *fakeAgent, fn func(u *ui)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := newUI(t, agent, theme.New(false, true, theme.Unknown))
		defer u.end()
		u.resize(80, 24)
		u.run(u.a.Init())
		u.settle()
		fn(u)
	})
}

func newUI(t *testing.T, agent *fakeAgent, th *theme.Theme) *ui {
	ctx, cancel := context.WithCancel(t.Context())
	u := &ui{t: t, agent: agent, msgs: make(chan tea.Msg), done: make(chan struct{}), cancel: cancel}
	u.a = newApp(ctx, agent, th, time.Now())
	u.a.ring = func() { u.rings.Add(1) }
	u.a.home, u.a.dir = "/home/pi", "/home/pi/videos"
	return u
}

func (u *ui) end() {
	u.cancel()
	close(u.done)
	u.agent.mu.Lock()
	if u.agent.events != nil && u.agent.down == nil {
		close(u.agent.events)
	}
	u.agent.mu.Unlock()
	time.Sleep(10 * time.Second) // the bubble's clock: every timer of a command ends
}

// run executes a command as bubbletea does.
func (u *ui) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	go func() {
		msg := cmd()
		if batch, ok := msg.(tea.BatchMsg); ok {
			for _, c := range batch {
				u.run(c)
			}
			return
		}
		if msg == nil {
			return
		}
		select {
		case u.msgs <- msg:
		case <-u.done:
		}
	}()
}

// settle takes messages until nothing happens without time going on.
func (u *ui) settle() {
	for {
		synctest.Wait()
		select {
		case msg := <-u.msgs:
			u.send(msg)
		default:
			return
		}
	}
}

func (u *ui) send(msg tea.Msg) {
	switch msg.(type) {
	case tea.QuitMsg:
		u.quit = true
	case tea.SuspendMsg:
		u.suspend = true
	}
	_, cmd := u.a.Update(msg)
	u.run(cmd)
}

// wait lets time pass.
func (u *ui) wait(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(250*time.Millisecond, time.Until(end))) // the bubble's clock
		u.settle()
	}
}

func (u *ui) resize(w, h int) {
	u.send(tea.WindowSizeMsg{Width: w, Height: h})
	u.settle()
}

// press sends keys by bubbletea's names.
func (u *ui) press(keys ...string) {
	u.t.Helper()
	for _, k := range keys {
		u.send(keyMsg(k))
		u.settle()
		checkFrame(u.t, u.a)
	}
}

// typed sends text one character at a time.
func (u *ui) typed(text string) {
	for _, r := range text {
		u.press(string(r))
	}
}

var keyTypes = map[string]tea.KeyType{
	"enter": tea.KeyEnter, "esc": tea.KeyEsc, "tab": tea.KeyTab, "shift+tab": tea.KeyShiftTab, "up": tea.KeyUp,
	"down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight, "home": tea.KeyHome, "end": tea.KeyEnd,
	"pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "backspace": tea.KeyBackspace, "ctrl+c": tea.KeyCtrlC,
	"ctrl+z": tea.KeyCtrlZ, "ctrl+l": tea.KeyCtrlL, "ctrl+f": tea.KeyCtrlF, "ctrl+u": tea.KeyCtrlU, "ctrl+j": tea.KeyCtrlJ,
}

func keyMsg(k string) tea.KeyMsg {
	if t, ok := keyTypes[k]; ok {
		return tea.KeyMsg{Type: t}
	}
	if k == " " {
		return tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
}

// text is the frame as people see it.
func (u *ui) text() string { return ansi.Strip(u.a.View()) }

// expect fails unless the frame has all the texts.
func (u *ui) expect(texts ...string) {
	u.t.Helper()
	for _, want := range texts {
		if !strings.Contains(u.text(), want) {
			u.t.Fatalf("no %q in the frame:\n%s", want, u.text())
		}
	}
}

func (u *ui) expectNot(texts ...string) {
	u.t.Helper()
	for _, not := range texts {
		if strings.Contains(u.text(), not) {
			u.t.Fatalf("%q is in the frame:\n%s", not, u.text())
		}
	}
}

// expectCalls fails unless the agent was called exactly so, and forgets them.
func (u *ui) expectCalls(want ...string) {
	u.t.Helper()
	u.agent.mu.Lock()
	defer u.agent.mu.Unlock()
	if got, want := strings.Join(u.agent.calls, "\n"), strings.Join(want, "\n"); got != want {
		u.t.Fatalf("calls to the agent:\n%s\nwant:\n%s", got, want)
	}
	u.agent.calls = nil
}

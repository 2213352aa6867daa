package message

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/identity"
)

func TestEachOnceAndInOrder(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada"), b.device("bob")
	var last Message
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("%d: größe\n\tund mehr", i))
		last = ada.say(want[i], bob)
	}
	ada.becomes(last, bob, Delivered)
	if got := bob.texts(); !slices.Equal(got, want) {
		t.Errorf("received %q", got)
	}
	if u := bob.Unread(); u.Count != 100 || u.Read != 0 {
		t.Errorf("unread: %+v", u)
	}
	// And back, with an ID of its own on each side.
	answer := bob.say("danke", ada)
	bob.becomes(answer, ada, Delivered)
	if got := ada.texts(); !slices.Equal(got, []string{"danke"}) {
		t.Errorf("the answer is %q", got)
	}
}

func TestWaitsForWhoIsAway(t *testing.T) {
	b := newBed(t)
	ada, bob, eve := b.device("ada"), b.device("bob"), b.device("eve")
	bob.cut(true)
	first := ada.say("1", bob, eve)
	ada.becomes(first, eve, Delivered)
	second := ada.say("2", bob)
	ada.await("a try is noted", func() bool {
		_, code := ada.state(second, bob)
		_, c := ada.state(first, bob)
		return code == "" && c == "peer_gone"
	})
	// The outbox survives a restart, and is in no hurry while nobody is there.
	ada.restart()
	if got := ada.WaitingFor(); !slices.Equal(got, []identity.DeviceID{bob.id}) {
		t.Errorf("waiting for %v", got)
	}
	third := ada.say("3", bob)
	bob.cut(false)
	ada.Wake(bob.id)
	ada.becomes(third, bob, Delivered)
	if got := bob.texts(); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("received %q", got)
	}
	for _, m := range []Message{first, second} {
		if state, code := ada.state(m, bob); state != Delivered || code != "" {
			t.Errorf("%s is %s (%s)", m.Text, state, code)
		}
	}
	// The marks are on the disk.
	ada.restart()
	if state, _ := ada.state(second, bob); state != Delivered || len(ada.WaitingFor()) != 0 {
		t.Errorf("after a restart it is %s", state)
	}
	if got := eve.texts(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("eve received %q", got)
	}
}

// The answer to a message that was kept is lost, several times, also over a restart of the receiver: the person sees it once.
func TestLostAnswers(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada"), b.device("bob")
	ada.near.Store(true)
	var mu sync.Mutex
	lost := 0
	restarted := make(chan struct{})
	bob.after = func(*http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if lost++; lost == 2 {
			defer close(restarted)
		}
		if lost <= 3 {
			panic(http.ErrAbortHandler)
		}
	}
	m := ada.say("once", bob)
	<-restarted
	bob.restart()
	ada.Wake(bob.id)
	ada.becomes(m, bob, Delivered)
	if got := bob.texts(); !slices.Equal(got, []string{"once"}) {
		t.Errorf("received %q", got)
	}
	if mu.Lock(); lost < 4 {
		t.Errorf("only %d answers", lost)
	}
	mu.Unlock()
}

func TestStrangersAreRefusedWithoutATrace(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada"), b.device("bob")
	bob.strangers[ada.id] = true
	m := ada.say("let me in", bob)
	ada.becomes(m, bob, Refused)
	if _, code := ada.state(m, bob); code != "refused" {
		t.Errorf("the reason is %q", code)
	}
	bob.mu.Lock()
	defer bob.mu.Unlock()
	if bob.Unread().Count != 0 || len(bob.entries)+len(bob.seen)+len(bob.pace) != 0 {
		t.Error("a stranger left a trace in memory")
	}
	for _, bucket := range []string{bucketMessages, bucketSeen, bucketMarks} {
		err := bob.store.Bucket(bucket).ForEach(func(key, raw []byte) error { return fmt.Errorf("%x: %s", key, raw) })
		if err != nil {
			t.Errorf("a stranger left a trace in %s: %v", bucket, err)
		}
	}
}

func TestTrustThatEnds(t *testing.T) {
	b := newBed(t)
	ada, bob, eve := b.device("ada"), b.device("bob"), b.device("eve")
	bob.cut(true)
	eve.cut(true)
	m := ada.say("x", bob, eve)
	ada.mu.Lock()
	ada.strangers[bob.id] = true
	ada.mu.Unlock()
	ada.Dismiss(bob.id)
	ada.becomes(m, bob, Failed)
	if _, code := ada.state(m, bob); code != "untrusted" {
		t.Errorf("the reason is %q", code)
	}
	if state, _ := ada.state(m, eve); state != Waiting {
		t.Errorf("for the other it is %s", state)
	}
	if _, err := ada.Send([]identity.DeviceID{eve.id, bob.id}, "x"); !errors.Is(err, ErrUntrusted) {
		t.Errorf("sending to a stranger: %v", err)
	}
	// The same when trust ended while the agent was off.
	ada.strangers[eve.id] = true
	ada.restart()
	ada.becomes(m, eve, Failed)
}

func TestCancel(t *testing.T) {
	b := newBed(t)
	ada, bob, eve := b.device("ada"), b.device("bob"), b.device("eve")
	bob.cut(true)
	m := ada.say("oops", bob, eve)
	ada.becomes(m, eve, Delivered)
	ada.await("a try is over", func() bool { _, code := ada.state(m, bob); return code != "" })
	if err := ada.Cancel(m.ID); err != nil {
		t.Fatal(err)
	}
	if _, code := ada.state(m, bob); code != "cancelled" {
		t.Errorf("the reason is %q", code)
	}
	// On the disk at once: an agent that is killed now must not send it later.
	if r, err := ada.db.get(m.Seq); err != nil || r.To[0].State != Failed {
		t.Errorf("the store has %+v, %v", r.To, err)
	}
	if state, _ := ada.state(m, eve); state != Delivered {
		t.Errorf("for the other it is %s", state)
	}
	if err := ada.Cancel(m.ID); !errors.Is(err, ErrState) {
		t.Errorf("again: %v", err)
	}
	if err := ada.Cancel("m000"); !errors.Is(err, ErrNotFound) {
		t.Errorf("another: %v", err)
	}
	bob.cut(false)
	ada.Wake(bob.id)
	after := ada.say("after", bob)
	ada.becomes(after, bob, Delivered)
	if got := bob.texts(); !slices.Equal(got, []string{"after"}) {
		t.Errorf("received %q", got)
	}
}

// A message is cancelled while it is on its way. Its mark tells what the receiver has.
func TestCancelInFlight(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada"), b.device("bob")
	held := make(chan struct{})
	bob.before = func(r *http.Request) {
		close(held)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	m := ada.say("oops", bob)
	next := ada.say("next", bob)
	<-held
	bob.mu.Lock()
	bob.before = nil
	bob.mu.Unlock()
	if err := ada.Cancel(m.ID); err != nil {
		t.Fatal(err)
	}
	if r, err := ada.db.get(m.Seq); err != nil || r.To[0].State != Failed {
		t.Errorf("the store has %+v, %v", r.To, err)
	}
	ada.becomes(next, bob, Delivered)
	if got := bob.texts(); !slices.Equal(got, []string{"next"}) {
		t.Errorf("received %q", got)
	}
}

// One device that does not take part does not keep the others waiting.
func TestManyAtOnce(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada")
	var all []*device
	for i := range 50 {
		all = append(all, b.device(fmt.Sprint("d", i)))
	}
	all[7].before = func(r *http.Request) { <-r.Context().Done(); panic(http.ErrAbortHandler) }
	began := time.Now()
	m := ada.say("to all", all...)
	for i, d := range all {
		if i != 7 {
			ada.becomes(m, d, Delivered)
		}
	}
	t.Logf("49 devices have it after %v", time.Since(began))
	if state, _ := ada.state(m, all[7]); state != Waiting {
		t.Errorf("for the one that hangs it is %s", state)
	}
	ada.mu.Lock()
	stops := slices.Clone(all)
	ada.mu.Unlock()
	for _, d := range stops {
		if got := len(d.texts()); got != 1 && d != all[7] {
			t.Errorf("%s has it %d times", d.id.Short(), got)
		}
	}
	all[7].cut(true)
}

func TestWhatIsNoMessage(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada"), b.device("bob")
	for _, tt := range []struct {
		text string
		want error
	}{
		{"", ErrEmpty},
		{strings.Repeat("x", MaxText+1), ErrTooLong},
		{"a\x00b", ErrNotText},
		{"a\xffb", ErrNotText},
		{"\xed\xa0\x80", ErrNotText},
	} {
		if _, err := ada.Send([]identity.DeviceID{bob.id}, tt.text); !errors.Is(err, tt.want) {
			t.Errorf("%.20q: %v, want %v", tt.text, err, tt.want)
		}
	}
	if _, err := ada.Send(nil, "x"); !errors.Is(err, ErrNobody) {
		t.Errorf("for nobody: %v", err)
	}
	if _, err := ada.Send(make([]identity.DeviceID, maxRecipients+1), "x"); err != nil {
		t.Errorf("the same device %d times: %v", maxRecipients+1, err)
	}
	m := ada.say(strings.Repeat("\x01", MaxText), bob, bob)
	if len(m.To) != 1 {
		t.Errorf("it is for %d devices", len(m.To))
	}
	ada.becomes(m, bob, Delivered)
	if got := bob.texts(); len(got) != 1 || got[0] != m.Text {
		t.Error("the longest and most awkward text did not arrive whole")
	}
}

// post sends raw bytes as a trusted device would.
func (d *device) post(t testing.TB, from identity.DeviceID, raw string) (status int, code string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://nigh/v1/msg", strings.NewReader(raw))
	r.Header.Set("Test-Peer", from.String())
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	var answer refusal
	if err := json.NewDecoder(w.Body).Decode(&answer); err != nil {
		t.Fatalf("the answer to %.60q is no JSON: %v", raw, err)
	}
	return w.Code, answer.Code
}

func TestHostileBodies(t *testing.T) {
	bob := newBed(t).device("bob")
	const id = `"id":"000102030405060708090a0b0c0d0e0f"`
	for _, tt := range []struct {
		raw    string
		status int
		code   string
	}{
		{`{"v":1,` + id + `,"text":"hi","t":12,"more":{"x":[1]}}`, 200, ""},
		{`{"v":1,` + id + `,"text":"hi again, under the same id"}`, 200, ""},
		{``, 400, "protocol"},
		{`{`, 400, "protocol"},
		{`null`, 400, "protocol"},
		{`[]`, 400, "protocol"},
		{`{"v":2,` + id + `,"text":"hi"}`, 400, "protocol"},
		{`{"v":1,"text":"hi"}`, 400, "protocol"},
		{`{"v":1,"id":"0001","text":"hi"}`, 400, "protocol"},
		{`{"v":1,"id":"zz0102030405060708090a0b0c0d0e0f","text":"hi"}`, 400, "protocol"},
		{`{"v":1,"id":"00000000000000000000000000000000","text":"hi"}`, 400, "protocol"},
		{`{"v":1,"id":7,"text":"hi"}`, 400, "protocol"},
		{`{"v":1,` + id + `,"text":["hi"]}`, 400, "protocol"},
		{`{"v":1,` + id + `,"text":""}`, 400, "empty"},
		{`{"v":1,` + id + `}`, 400, "empty"},
		{`{"v":1,` + id + `,"text":"a\u0000b"}`, 400, "not_text"},
		{"{\"v\":1," + id + ",\"text\":\"a\xffb\"}", 400, "not_text"},
		{`{"v":1,` + id + `,"text":"` + strings.Repeat("x", MaxText+1) + `"}`, 413, "too_long"},
		{`{"v":1,` + id + `,"text":"` + strings.Repeat("x", 2*maxBody) + `"}`, 413, "too_long"},
		{strings.Repeat("[", maxBody), 400, "protocol"},
		{`{"v":1,` + id + `,"text":"hi"} {}`, 400, "protocol"},
	} {
		if status, code := bob.post(t, idOf("ada"), tt.raw); status != tt.status || code != tt.code {
			t.Errorf("%.80q is answered with %d %q, want %d %q", tt.raw, status, code, tt.status, tt.code)
		}
	}
	if got := bob.texts(); !slices.Equal(got, []string{"hi"}) {
		t.Errorf("received %q", got)
	}
	// The same id of another device is another message.
	if status, _ := bob.post(t, idOf("eve"), `{"v":1,`+id+`,"text":"from eve"}`); status != 200 {
		t.Errorf("status %d", status)
	}
	if got := bob.texts(); len(got) != 2 {
		t.Errorf("received %q", got)
	}
}

// What each answer of a peer means, true or not.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		want   State
		code   string
	}{
		{200, "", Delivered, ""},
		{200, strings.Repeat("x", 1<<20), Delivered, ""},
		{403, `{"code":"refused"}`, Refused, "refused"},
		{404, "404 page not found", Failed, "unsupported"},
		{413, `{"code":"too_long"}`, Failed, "protocol"},
		{400, "\x1b[2J", Failed, "protocol"},
		{301, "", Failed, "protocol"},
		{429, `{"code":"busy"}`, Waiting, "busy"},
		{500, `{"code":"internal"}`, Waiting, "peer_gone"},
	} {
		b := newBed(t)
		ada := b.device("ada")
		peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		b.remote[idOf("bob")] = strings.TrimPrefix(peer.URL, "http://")
		bob := &device{id: idOf("bob")}
		m := ada.say("hello", bob)
		ada.await(fmt.Sprintf("%d %.20q means %s", tt.status, tt.body, tt.want), func() bool {
			state, code := ada.state(m, bob)
			return state == tt.want && code == tt.code
		})
		ada.client.CloseIdleConnections()
		peer.Close()
	}
}

func TestOneDeviceCannotFlood(t *testing.T) {
	bob := newBed(t).device("bob")
	body := func(n int) string { return fmt.Sprintf(`{"v":1,"id":"%032x","text":"message %d"}`, n+1, n) }
	began := time.Now()
	taken, refused := 0, 0
	for n := range 4 * receiveBurst {
		switch status, code := bob.post(t, idOf("mad"), body(n)); {
		case status == 200:
			taken++
		case status == 429 && code == "busy":
			refused++
		default:
			t.Fatalf("status %d %q", status, code)
		}
	}
	most := receiveBurst + int(time.Since(began).Seconds()*receiveRate) + 1
	if taken > most || refused == 0 {
		t.Errorf("%d messages of a flood were taken, %d refused; at most %d may be", taken, refused, most)
	}
	if status, _ := bob.post(t, idOf("ada"), body(0)); status != 200 {
		t.Errorf("another device is refused: %d", status)
	}
}

func TestListSearchUnread(t *testing.T) {
	b := newBed(t)
	ada, bob, eve := b.device("ada"), b.device("bob"), b.device("eve")
	eve.cut(true)
	var last Message
	for i := range 30 {
		last = bob.say(fmt.Sprintf("Größe %d", i), ada)
	}
	bob.becomes(last, ada, Delivered)
	own := ada.say("an answer about GRÖSSE", eve)
	ctx := context.Background()
	list := func(q Query) (seqs []uint64, more bool) {
		t.Helper()
		got, more, err := ada.List(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			seqs = append(seqs, m.Seq)
		}
		return seqs, more
	}
	span := func(from, to uint64) (seqs []uint64) {
		for n := from; n <= to; n++ {
			seqs = append(seqs, n)
		}
		return seqs
	}
	for _, tt := range []struct {
		name string
		q    Query
		want []uint64
		more bool
	}{
		{"all", Query{}, span(1, 31), false},
		{"newest", Query{Limit: 5}, span(27, 31), true},
		{"page before", Query{Limit: 5, Before: 27}, span(22, 26), true},
		{"first page", Query{Limit: 5, Before: 6}, span(1, 5), false},
		{"go on", Query{Since: 3, Limit: 4, Oldest: true}, span(4, 7), true},
		{"from the start", Query{Limit: 3, Oldest: true}, span(1, 3), true},
		{"newest since", Query{Since: 3, Limit: 4}, span(28, 31), true},
		{"nothing new", Query{Since: 31}, nil, false},
		{"search", Query{Search: "größe 2"}, append([]uint64{3}, span(21, 30)...), false},
		{"search without a hit", Query{Search: "%d"}, nil, false},
		{"from bob", Query{From: bob.id, Limit: 2}, span(29, 30), true},
		{"from ada herself", Query{From: ada.id}, nil, false},
		{"waiting", Query{Waiting: true}, []uint64{31}, false},
		{"huge limit", Query{Limit: 1 << 30}, span(1, 31), false},
	} {
		if got, more := list(tt.q); !slices.Equal(got, tt.want) || more != tt.more {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, got, more, tt.want, tt.more)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := ada.List(gone, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that is gone: %v", err)
	}
	if got := ada.IDs("m"); len(got) != 31 || got[30] != own.ID {
		t.Errorf("IDs: %v", got)
	}

	mark := func(seq uint64, want Unread) {
		t.Helper()
		if u, err := ada.MarkRead(seq); err != nil || u != want || ada.Unread() != want {
			t.Errorf("MarkRead(%d) = %+v, %v; want %+v", seq, u, err, want)
		}
	}
	mark(0, Unread{0, 30})
	mark(10, Unread{10, 20})
	mark(4, Unread{10, 20})
	ada.restart()
	mark(10, Unread{10, 20})
	// A number of the future reads what is there, and no more.
	mark(1<<40, Unread{31, 0})
	one := bob.say("new", ada)
	bob.near.Store(true)
	bob.Wake(ada.id)
	bob.becomes(one, ada, Delivered)
	if u := ada.Unread(); u != (Unread{31, 1}) {
		t.Errorf("a new message: %+v", u)
	}
	ada.await("the unread number is told", func() bool { ada.mu.Lock(); defer ada.mu.Unlock(); return ada.unread == Unread{31, 1} })
}

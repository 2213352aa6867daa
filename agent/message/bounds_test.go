package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/identity"
)

// take is a message of a device, past the bound on its pace.
func (d *device) takeFrom(name string, n int, text string) {
	d.bed.t.Helper()
	var w wireID
	copy(w[:], fmt.Sprintf("%016d", n))
	if err := d.take(idOf(name), body{Version: 1, ID: w, Text: text}); err != nil {
		d.bed.t.Fatal(err)
	}
}

// stored counts the values of a bucket and their bytes.
func (d *device) stored(bucket string) (n, bytes int) {
	d.bed.t.Helper()
	err := d.store.Bucket(bucket).ForEach(func(_, raw []byte) error {
		n, bytes = n+1, bytes+len(raw)
		return nil
	})
	if err != nil {
		d.bed.t.Fatal(err)
	}
	return n, bytes
}

// A trusted device gone mad fills its own share of the history and nobody else's; the disk does not fill.
func TestHistoryIsBounded(t *testing.T) {
	d := newBed(t).device("bob")
	d.takeFrom("ada", 1, "of a friend")
	d.takeFrom("ada", 2, "of a friend, too")
	sent := d.say("waits", &device{id: idOf("away")})
	big := strings.Repeat("\x01", MaxText) // 192 KiB in the store
	fit := maxShareBytes / (6 * MaxText)
	for n := range 3 * fit {
		d.takeFrom("mad", n, big)
	}
	count, bytes := d.stored(bucketMessages)
	if bytes > maxShareBytes+1<<20 || count > fit+3 || count < fit {
		t.Errorf("%d records of %d bytes are kept, want at most %d", count, bytes, maxShareBytes)
	}
	t.Logf("%d large messages came, %d records of %d bytes are kept", 3*fit, count, bytes)
	for n := range 20 {
		d.takeFrom("mad", 3*fit+n, "small")
	}
	if got := d.texts()[:2]; !slices.Equal(got, []string{"of a friend", "of a friend, too"}) {
		t.Errorf("the oldest messages are %q", got)
	}
	d.becomes(sent, &device{id: idOf("away")}, Waiting)
	if u, n := d.Unread(), len(d.texts()); u.Count != n {
		t.Errorf("%d unread of %d", u.Count, n)
	}
	if n, _ := d.stored(bucketSeen); n != maxSeen+2 {
		t.Errorf("%d ids are remembered, want %d", n, maxSeen+2)
	}
	// What was dropped is told, and does not come back.
	d.mu.Lock()
	gone := len(d.gone)
	d.mu.Unlock()
	if gone == 0 {
		t.Error("nobody was told of what was dropped")
	}
	before := len(d.texts())
	d.takeFrom("mad", 3*fit+19, "small")
	d.restart()
	d.takeFrom("mad", 3*fit+19, "small")
	if n := len(d.texts()); n != before {
		t.Errorf("a repeated message was taken: %d instead of %d", n, before)
	}
}

// The bounds by count, without the disk: the same tables and rules.
func TestRoom(t *testing.T) {
	e := &Engine{byID: map[string]*entry{}}
	add := func(r record) (dropped int) {
		r.Seq, r.ID = e.last+1, fmt.Sprintf("m%012d", e.last+1)
		drop := e.room(&r)
		e.added(r, drop)
		return len(drop)
	}
	from := func(n int) record {
		return record{Message: Message{Direction: Receive, Peer: idOf(fmt.Sprint(n)), Text: "x"}}
	}
	own := record{Message: Message{Direction: Send, To: []Recipient{{Peer: idOf("0"), State: Waiting}}, Text: "x"}}
	for range maxWaiting {
		if add(own) > 0 {
			t.Fatal("what waits was dropped, or there was no need")
		}
	}
	for i := range maxHistory - maxWaiting + 500 {
		add(from(i % 7))
	}
	if len(e.entries) != maxHistory || len(e.byID) != maxHistory {
		t.Errorf("%d messages are kept, want %d", len(e.entries), maxHistory)
	}
	for i, en := range e.entries[:maxWaiting] {
		if en.seq != uint64(i+1) {
			t.Fatalf("message %d, which waits, was dropped", i+1)
		}
	}
	for range maxShare + 200 {
		add(from(3))
	}
	shares := map[identity.DeviceID]int{}
	for _, en := range e.entries {
		shares[en.peer]++
	}
	if shares[idOf("3")] != maxShare || shares[idOf("4")] == 0 {
		t.Errorf("one device has %d messages, another %d", shares[idOf("3")], shares[idOf("4")])
	}
	if e.unread != len(e.entries)-maxWaiting {
		t.Errorf("%d unread", e.unread)
	}
}

func TestOutboxIsBounded(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada")
	away := func(n int) *device { return &device{id: idOf(fmt.Sprint("away", n))} }
	send := func(text string, to ...*device) error {
		var ids []identity.DeviceID
		for _, d := range to {
			ids = append(ids, d.id)
		}
		_, err := ada.Send(ids, text)
		return err
	}
	for n := range maxOutbox {
		ada.say(fmt.Sprint(n), away(0))
	}
	if err := send("one too many", away(0)); !errors.Is(err, ErrFull) {
		t.Errorf("one message too many: %v", err)
	}
	// Those with room get it all the same.
	m := ada.say("for two", away(0), away(1))
	if state, code := ada.state(m, away(0)); state != Failed || code != "full" {
		t.Errorf("the full one is %s %q", state, code)
	}
	if state, _ := ada.state(m, away(1)); state != Waiting {
		t.Errorf("the other is %s", state)
	}
	large := strings.Repeat("x", MaxText)
	for range maxOutboxBytes / MaxText {
		ada.say(large, away(2))
	}
	if err := send("x", away(2)); !errors.Is(err, ErrFull) {
		t.Errorf("too many bytes for one device: %v", err)
	}
	// In all. The bound is on the disk, so a text for many counts once.
	devices := 3
	for ; ; devices++ {
		if err := send(large, away(devices)); errors.Is(err, ErrFull) {
			break
		} else if err != nil || devices > 1000 {
			t.Fatalf("%d devices: %v", devices, err)
		}
	}
	if _, bytes := ada.stored(bucketMessages); bytes > maxWaitingBytes+1<<20 {
		t.Errorf("%d bytes wait on the disk", bytes)
	}
	// What is taken back makes room.
	if err := ada.Cancel(m.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range ada.IDs("m")[:maxOutbox] {
		if err := ada.Cancel(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := send("room again", away(0)); err != nil {
		t.Error(err)
	}
	ada.restart()
	if err := send("x", away(2)); !errors.Is(err, ErrFull) {
		t.Errorf("after a restart: %v", err)
	}
}

// Many devices come and go: what is remembered of them has a bound.
func TestRememberedDevicesAreBounded(t *testing.T) {
	e := &Engine{seen: map[identity.DeviceID][]seenID{}}
	for n := range uint64(maxSeenDevices) {
		id := idOf(fmt.Sprint(n))
		e.seen[id] = []seenID{{peer: id, seq: 10_000 - n}, {peer: id, seq: 20_000 + n}}
	}
	forget := e.forgettable(idOf("new"))
	if len(forget) != 2 || forget[0].peer != idOf("0") {
		t.Errorf("%d ids of %v are forgotten, want both of the device that was silent longest", len(forget), forget)
	}
	if forget := e.forgettable(idOf("5")); len(forget) != 0 {
		t.Errorf("a device that is remembered costs another one: %v", forget)
	}
}

// Whatever is damaged in the store costs itself and nothing else.
func TestDamagedRecordsAreSetAside(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada"), b.device("bob")
	for n := range 5 {
		bob.becomes(bob.say(fmt.Sprint(n), ada), ada, Delivered)
	}
	bob.cut(true)
	waits := ada.say("waits", bob)
	damage := func(bucket string, key []byte, v any) {
		t.Helper()
		if err := ada.store.Bucket(bucket).Put(key, v); err != nil {
			t.Fatal(err)
		}
	}
	var good json.RawMessage
	if err := ada.store.Bucket(bucketMessages).Get(seqKey(1), &good); err != nil {
		t.Fatal(err)
	}
	damage(bucketMessages, seqKey(2), 7)
	damage(bucketMessages, seqKey(3), map[string]any{"seq": 3, "id": "m00", "text": "x"})
	damage(bucketMessages, seqKey(99), good) // under a wrong number
	damage(bucketMessages, []byte("short"), "x")
	damage(bucketMessages, seqKey(100), map[string]any{"seq": 100, "id": "m000000000000", "direction": "send", "text": "x", "wire": strings.Repeat("0", 32)})
	damage(bucketSeen, []byte("x"), "00")
	damage(bucketSeen, seenKey(bob.id, 1), []int{1})
	damage(bucketMarks, []byte(markRead), "often")
	ada.restart()
	if got := ada.texts(); !slices.Equal(got, []string{"0", "3", "4"}) {
		t.Errorf("what is left: %q", got)
	}
	if n, _ := ada.stored(bucketDamaged); n != 7 {
		t.Errorf("%d values were set aside, want 7", n)
	}
	bob.cut(false)
	ada.Wake(bob.id)
	ada.becomes(waits, bob, Delivered)
	// New messages have new numbers, and the agent starts again without a word.
	if m := ada.say("new", bob); m.Seq <= waits.Seq {
		t.Errorf("a new message has the number %d", m.Seq)
	}
	ada.restart()
	if n, _ := ada.stored(bucketDamaged); n != 7 {
		t.Errorf("%d values are aside after another start", n)
	}
}

// The receiver's disk is full: nothing is called delivered that is not there, and the sender comes again. The sender's own is full:
// the person hears of it at once.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("nigh-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("needs root: mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	b := newBed(t)
	ada, bob := b.device("ada"), b.deviceIn("bob", dir)
	ada.becomes(ada.say("before", bob), bob, Delivered)
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// The database has pages to use again; this is more than they hold.
	m := ada.say(strings.Repeat("large", MaxText/5), bob)
	ada.await("the try is noted", func() bool { _, code := ada.state(m, bob); return code == "peer_gone" })
	if got := bob.texts(); !slices.Equal(got, []string{"before"}) {
		t.Errorf("received %.80q", got)
	}
	if _, err := bob.Send([]identity.DeviceID{ada.id}, m.Text); Code(err) != "internal" {
		t.Errorf("sending on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	ada.Wake(bob.id)
	ada.becomes(m, bob, Delivered)
	if got := bob.texts(); len(got) != 2 || got[1] != m.Text {
		t.Errorf("%d messages were received", len(got))
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The clock goes back by decades between two messages: the order stays.
func TestOrderIsNotOfTheClock(t *testing.T) {
	d := newBed(t).device("bob")
	for n, at := range []int64{1_800_000_000, 0, 1_900_000_000, 7} {
		r := record{Message: Message{Seq: uint64(n + 1), ID: fmt.Sprintf("m%012x", n), Direction: Receive, Peer: idOf("ada"), Text: fmt.Sprint(n), Time: time.Unix(at, 0)}}
		if err := d.db.add(r, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	d.restart()
	if got := d.texts(); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
		t.Errorf("the order is %q", got)
	}
}

package pairing

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"nigh/agent/clean"
	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/store"
	"nigh/agent/trust"
)

var (
	// ErrBusy is returned when the device, or this one, is being asked by another one.
	ErrBusy = errors.New("pairing: another pairing is under way")
	// ErrTooOften is returned when the device takes no more of strangers for now: of this
	// one, or of all.
	ErrTooOften = errors.New("pairing: strangers ask the other side too often")
	// ErrRefused is returned when the other side's user said no.
	ErrRefused = errors.New("pairing: the other side said no")
	// ErrCancelled is returned when this side's user said no, or gave up.
	ErrCancelled = errors.New("pairing: cancelled here")
	// ErrExpired is returned when the two users did not both answer in time.
	ErrExpired = errors.New("pairing: nobody answered in time")
	// ErrLost is returned when the connection broke: a pairing does not survive that.
	ErrLost = errors.New("pairing: the connection was lost")
	// ErrTampered is returned when what the other side sent does not fit what it had
	// committed to or proved: somebody may be in between.
	ErrTampered = errors.New("pairing: the other side could not prove what it said")
	// ErrProtocol is returned when the other side does not keep to the protocol.
	ErrProtocol = errors.New("pairing: the other side does not keep to the protocol")
	// ErrUnknown is returned for a pairing that does not exist, or is over.
	ErrUnknown = errors.New("pairing: no such pairing")
	// ErrOff is returned when pairing is switched off on one of the devices.
	ErrOff = errors.New("pairing: switched off")
	// ErrClosed is returned after Run has ended.
	ErrClosed = errors.New("pairing: closed")
)

// State is how far a pairing is.
type State string

// The states. Only in Comparing a user has something to decide.
const (
	Connecting State = "connecting" // no code yet
	Comparing  State = "comparing"  // the code is shown, this side's user has not answered
	Waiting    State = "waiting"    // this side said yes
	Paired     State = "paired"     // over: both trust each other
	Failed     State = "failed"     // over: nothing is trusted; Err says why
)

// Pairing is one pairing as it stands.
type Pairing struct {
	ID   string // random; another one for each pairing
	Peer identity.DeviceID
	// Name is what the other device calls itself, safe to show; "" when it does not say.
	Name string
	// Asked is true when the other side began it.
	Asked bool
	State State
	// Code is the six digits to compare, "" while Connecting.
	Code string
	// Until is when it ends by itself; zero while Connecting.
	Until time.Time
	// Err says why it Failed.
	Err error
}

// Over reports whether nothing more happens to it.
func (p Pairing) Over() bool { return p.State == Paired || p.State == Failed }

// Config is what [New] needs; everything but Logger and Changed is required.
type Config struct {
	// Logger; nil discards.
	Logger *slog.Logger
	// Self is this device.
	Self identity.DeviceID
	// Store keeps the setup code.
	Store *store.Store
	// Book gets who is paired.
	Book *trust.Book
	// Open makes a connection to a device, as [session.Sessions.Open].
	Open func(context.Context, identity.DeviceID) (*session.Channel, error)
	// Name is what this device calls itself to one that pairs with it; began is true
	// when the pairing was begun here.
	Name func(peer identity.DeviceID, began bool) string
	// Off reports whether pairing is switched off here: none is begun or taken. It must
	// not wait. nil: it is not.
	Off func() bool
	// Changed is told of every pairing that a user has something to see of, whenever it
	// changes. It must not wait. May be nil.
	Changed func(Pairing)
}

// Engine carries out pairings. All methods may be called by several goroutines.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	keeper *keeper
	limits limits

	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	ended  bool                           // no more work may be added; guarded by mu
	live   map[identity.DeviceID]*pairing // guarded by mu
	recent []*pairing                     // that are over, oldest first; guarded by mu
	gate   gate                           // guarded by mu
}

// pairing is a Pairing at work; the engine's mutex guards it.
type pairing struct {
	Pairing
	key     identity.PublicKey
	parties parties
	askers  word // the asker's nonce; of one that asks us: once it was revealed
	askeds  word
	promise word // the commitment of one that asks us
	binding session.Binding

	ours    bool      // our user began it too
	began   bool      // we asked, and said so to the other side
	mine    bool      // our user said yes
	theirs  bool      // the other side confirmed
	writing bool      // the trust book is being written
	undone  bool      // the other side took its yes back while or after it was
	added   time.Time // when the trust book got it by this pairing; zero when it was in it before

	cancel  context.CancelFunc // ends the goroutine that belongs to it
	changed chan struct{}      // closed and replaced at each change
}

// New opens the setup code. Call [Engine.Run], even when it is to end at once.
func New(cfg Config) (*Engine, error) {
	k, err := openKeeper(cfg.Store)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Off == nil {
		cfg.Off = func() bool { return false }
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Pairing) {}
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, keeper: k, limits: defaultLimits, live: make(map[identity.DeviceID]*pairing), gate: newGate()}
	e.life, e.end = context.WithCancel(context.Background())
	return e, nil
}

// Run waits until ctx ends, then ends every pairing and waits for what was started.
func (e *Engine) Run(ctx context.Context) error {
	<-ctx.Done()
	e.mu.Lock()
	e.ended = true
	e.mu.Unlock()
	e.end()
	e.work.Wait()
	return nil
}

// SetupCode returns this device's setup code in its written form, made at the first
// call; with anew a new one that takes the old one's place, and its lock away.
func (e *Engine) SetupCode(anew bool) (string, error) {
	c, err := e.keeper.code(anew)
	if err != nil {
		return "", err
	}
	return c.Text(), nil
}

// SetupLock returns for how long no setup code is taken here, and how many wrong ones
// came in a row.
func (e *Engine) SetupLock() (time.Duration, int) { return e.keeper.locked() }

// List returns the pairings that a user has something to see of: those with a code.
func (e *Engine) List() []Pairing {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []Pairing
	for _, p := range e.live {
		if p.State != Connecting {
			list = append(list, p.Pairing)
		}
	}
	return list
}

// Compare begins to pair with the device id and returns once the code can be shown,
// or with why not. A pairing with it that is under way, whoever began it, is
// returned instead of a second one. When ctx ends before that, so does the pairing.
func (e *Engine) Compare(ctx context.Context, id identity.DeviceID) (Pairing, error) {
	if e.cfg.Off() {
		return Pairing{}, ErrOff
	}
	e.mu.Lock()
	p := e.live[id]
	mine := p == nil
	switch {
	case e.ended:
		e.mu.Unlock()
		return Pairing{}, ErrClosed
	case p != nil && !p.ours && p.State == Connecting:
		// It has not revealed its nonce: it may never do.
		e.finish(p, ErrLost)
		mine = true
	case p == nil && e.asking():
		e.mu.Unlock()
		return Pairing{}, ErrBusy
	}
	if mine {
		p = e.add(id, false)
		ctx, cancel := context.WithCancel(e.life)
		p.cancel = cancel
		e.work.Go(func() { defer cancel(); e.ask(ctx, p) })
	}
	e.mu.Unlock()
	shown, err := e.await(ctx, p, func(p *pairing) bool { return p.State != Connecting })
	if err != nil && mine {
		e.mu.Lock()
		e.finish(p, ErrCancelled)
		e.mu.Unlock()
		return Pairing{}, err
	}
	return shown, cmp.Or(err, shown.Err)
}

// asking reports whether our user is asking somebody; e.mu is held.
func (e *Engine) asking() bool {
	for _, p := range e.live {
		if p.ours {
			return true
		}
	}
	return false
}

// add makes a pairing; e.mu is held, and there is none with the device.
func (e *Engine) add(id identity.DeviceID, asked bool) *pairing {
	var serial [4]byte
	rand.Read(serial[:]) // never fails (crypto/rand)
	p := &pairing{
		Pairing: Pairing{ID: "pair-" + hex.EncodeToString(serial[:]), Peer: id, Asked: asked, State: Connecting},
		ours:    !asked, cancel: func() {}, changed: make(chan struct{}),
	}
	e.live[id] = p
	return p
}

// Answer gives the answer of this side's user. A yes counts once the other side's
// comes too; a no ends the pairing, also after a yes. It returns [ErrUnknown] when
// there is no such pairing, or it is over.
func (e *Engine) Answer(id string, yes bool) error {
	e.mu.Lock()
	p := e.find(id)
	if p == nil || p.Over() || p.writing {
		e.mu.Unlock()
		return ErrUnknown
	}
	if !yes {
		e.finish(p, ErrCancelled)
		e.mu.Unlock()
		return nil
	}
	if p.State != Comparing {
		e.mu.Unlock()
		return nil // it was said already, by another face perhaps
	}
	p.mine, p.State = true, Waiting
	e.wake(p)
	e.mu.Unlock()
	if p.Asked {
		e.settle(p)
	}
	return nil
}

// Wait blocks until the pairing is over and returns it, with its Err. Pairings that
// are over are known for a while.
func (e *Engine) Wait(ctx context.Context, id string) (Pairing, error) {
	e.mu.Lock()
	p := e.find(id)
	e.mu.Unlock()
	if p == nil {
		return Pairing{}, ErrUnknown
	}
	over, err := e.await(ctx, p, func(p *pairing) bool { return p.Over() })
	return over, cmp.Or(err, over.Err)
}

// find returns the pairing with this ID, also one that is over; e.mu is held.
func (e *Engine) find(id string) *pairing {
	for _, p := range e.live {
		if p.ID == id {
			return p
		}
	}
	for _, p := range e.recent {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// await blocks until ok accepts p, or it is over, or ctx ends.
func (e *Engine) await(ctx context.Context, p *pairing, ok func(*pairing) bool) (Pairing, error) {
	for {
		e.mu.Lock()
		now, done, changed := p.Pairing, p.Over() || ok(p), p.changed
		e.mu.Unlock()
		if done {
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

// wake tells everybody who waits for p; e.mu is held. Changed is told soon after.
func (e *Engine) wake(p *pairing) {
	close(p.changed)
	p.changed = make(chan struct{})
	if now := p.Pairing; now.Code != "" && !e.ended {
		e.work.Go(func() { e.cfg.Changed(now) })
	}
}

// finish ends p: paired when err is nil; e.mu is held.
func (e *Engine) finish(p *pairing, err error) {
	if p.Over() {
		return
	}
	useless := p.Asked || p.State == Connecting // its goroutine has nothing more to say
	p.State, p.Err = Paired, nil
	if err != nil {
		p.State, p.Err = Failed, err
	}
	if e.live[p.Peer] == p {
		delete(e.live, p.Peer)
	}
	if e.recent = append(e.recent, p); len(e.recent) > maxRecent {
		e.recent = e.recent[1:]
	}
	e.wake(p)
	if useless {
		p.cancel()
	}
	if p.Asked {
		p.binding.Protect(false)
	}
	if p.Asked && !p.ours && p.Code == "" {
		e.gate.quiet = time.Now().Add(e.limits.dropped)
	}
	if errors.Is(err, ErrTampered) || errors.Is(err, ErrProtocol) {
		e.gate.shut(p.Peer, e.limits.culprit)
		e.log.Warn("Pairing broken off", "peer", p.Peer.Short(), "err", err)
		return
	}
	if p.Asked && (errors.Is(err, ErrCancelled) || errors.Is(err, ErrExpired)) {
		e.gate.shut(p.Peer, e.limits.refused)
	}
	if err != nil {
		e.log.Info("Pairing ended", "peer", p.Peer.Short(), "err", err)
	}
}

// settle writes an asked pairing into the trust book once both said yes.
func (e *Engine) settle(p *pairing) {
	e.mu.Lock()
	if p.Over() || p.writing || !p.mine || !p.theirs {
		e.mu.Unlock()
		return
	}
	p.writing = true
	e.mu.Unlock()
	e.seal(p)
}

// seal writes p into the trust book and ends it; p.writing is set.
func (e *Engine) seal(p *pairing) {
	before, known := e.cfg.Book.Record(p.Peer)
	err := e.trust(p.key, p.Name)
	after, _ := e.cfg.Book.Record(p.Peer)
	e.mu.Lock()
	if err == nil && (!known || !before.Added.Equal(after.Added)) {
		p.added = after.Added
	}
	undone := p.undone
	if !undone || err != nil {
		e.finish(p, err)
	}
	e.mu.Unlock()
	if undone {
		e.undo(p)
	}
}

// undo ends the trust that p made, because the other side's no crossed our user's yes: it trusts nobody. What was trusted before stays so.
func (e *Engine) undo(p *pairing) {
	var err error
	if !p.added.IsZero() {
		err = e.cfg.Book.Unpair(p.Peer, p.added)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil:
		e.log.Error("Trust of a pairing that the other side took back stays", "peer", p.Peer.Short(), "err", err)
		e.finish(p, nil)
	case p.Over():
		e.log.Info("Pairing taken back by the other side", "peer", p.Peer.Short())
		p.State, p.Err = Failed, ErrRefused
		e.wake(p)
	default:
		e.finish(p, ErrRefused)
	}
}

// trust makes the device with this key trusted.
func (e *Engine) trust(key identity.PublicKey, name string) error {
	if err := e.cfg.Book.Pair(key, name); err != nil {
		return fmt.Errorf("pairing: %w", err)
	}
	e.log.Info("Paired", "peer", key.ID().Short(), "name", name)
	return nil
}

// label is the name of another device, safe to show.
func label(name string) string { return clean.Name(name, maxName) }

package recognise

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync"

	"nigh/agent/identity"
)

// ErrStranger is returned for a device whose key is not known or that is not
// trusted: there is no secret to derive anything from.
var ErrStranger = errors.New("recognise: no secret with this device")

// Friend is a device that this one trusts, with its key as far as it is known.
type Friend struct {
	ID  identity.DeviceID
	Key identity.PublicKey
}

// Recogniser holds what this device tells the air, and says who is behind what it
// hears. Its methods may be called by several goroutines.
type Recogniser struct {
	self *identity.Identity

	mu     sync.Mutex
	open   bool              // guarded by mu
	nonce  Nonce             // guarded by mu
	decoys [nameTags]Tag     // guarded by mu
	pairs  []pair            // newest first; guarded by mu
	first  identity.DeviceID // guarded by mu
	manual bool              // guarded by mu
}

// New returns a Recogniser without friends, with a fresh nonce. When open its
// adverts carry the key, so that everybody can tell who sends them.
func New(self *identity.Identity, open bool) *Recogniser {
	r := &Recogniser{self: self, open: open}
	r.Renew()
	return r
}

// Open sets whether adverts carry the key from now on.
func (r *Recogniser) Open(open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = open
}

// Renew draws another nonce: after each attempt to form or join a group, however
// it ended, and now and then.
func (r *Recogniser) Renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fill(r.nonce[:])
	for i := range r.decoys {
		fill(r.decoys[i][:])
	}
}

func fill(b []byte) { _, _ = rand.Read(b) } // never fails (crypto/rand)

// Befriend replaces the friends, the most important first. Those without a key,
// or with one that cannot be, are recognised when the key is known.
func (r *Recogniser) Befriend(friends []Friend) {
	r.mu.Lock()
	old := make(map[identity.DeviceID]pair, len(r.pairs))
	for _, p := range r.pairs {
		old[p.other] = p
	}
	r.mu.Unlock()
	pairs := make([]pair, 0, len(friends))
	for _, f := range friends {
		p, ok := old[f.ID]
		if !ok {
			if f.Key.IsZero() || f.Key.ID() != f.ID {
				continue
			}
			secret, err := r.self.Shared(f.Key)
			if err != nil {
				continue
			}
			if p, err = newPair(r.self.ID, f.ID, secret); err != nil {
				continue
			}
		}
		pairs = append(pairs, p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pairs = pairs
}

// Prefer puts the tag of one friend before all others, because it is about to be
// asked for a group and there is not room for all.
func (r *Recogniser) Prefer(id identity.DeviceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first = id
}

// Manual has adverts say that a group is asked for with a PIN that people type, not
// with a derived one.
func (r *Recogniser) Manual(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manual = on
}

// Advert is what to tell the air now. It has as many tags as there are friends,
// and at least four, so that few friends look like four.
func (r *Recogniser) Advert() Advert {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.tagged(r.nonce, r.decoys)
	a.Manual = r.manual
	if r.open {
		a.Key = r.self.Key()
	}
	return a
}

// Announcement is what to tell a network beside the air: an advert without a key whose
// nonce is its own, another one at each call. It tells nobody what the air is told.
func (r *Recogniser) Announcement() Advert {
	var nonce Nonce
	var decoys [nameTags]Tag
	fill(nonce[:])
	for i := range decoys {
		fill(decoys[i][:])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tagged(nonce, decoys)
}

// tagged is an advert with this nonce, and as many decoys as it takes to look like four
// friends; r.mu is held.
func (r *Recogniser) tagged(nonce Nonce, decoys [nameTags]Tag) Advert {
	a := Advert{Nonce: nonce}
	for _, p := range r.pairs {
		t := p.tagOf(p.self, p.other, nonce)
		if p.other == r.first {
			a.Tags = slices.Insert(a.Tags, 0, t)
		} else {
			a.Tags = append(a.Tags, t)
		}
	}
	for i := len(a.Tags); i < nameTags; i++ {
		a.Tags = append(a.Tags, decoys[i])
	}
	return a
}

// Who returns the friend who seems to have sent an advert: one of whose tags is for
// us. It is a hint: the advert may be a recording.
func (r *Recogniser) Who(a Advert) (identity.DeviceID, bool) {
	claimed := a.Key
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(a.Tags) == 0 {
		return identity.DeviceID{}, false
	}
	var id identity.DeviceID
	if !claimed.IsZero() {
		id = claimed.ID()
	}
	for _, p := range r.pairs {
		if !claimed.IsZero() && p.other != id {
			continue
		}
		want := p.tagOf(p.other, p.self, a.Nonce)
		for _, t := range a.Tags {
			if subtle.ConstantTimeCompare(t[:], want[:]) == 1 {
				return p.other, true
			}
		}
	}
	return identity.DeviceID{}, false
}

// Negotiation returns the PIN of a group to be negotiated with a friend, whose
// last advert had the nonce others, and whether this device is the one of the two
// that shows it; the other one enters it. It does not matter who asks, or whether
// both do. The error wraps [ErrStranger].
func (r *Recogniser) Negotiation(id identity.DeviceID, others Nonce) (pin string, shows bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.with(id)
	if err != nil {
		return "", false, err
	}
	return p.negotiationPIN(r.nonce, others), p.self.Compare(p.other) < 0, nil
}

// Joining returns the PIN, which this device shows, to join a running group of a
// friend with, whose last advert had the nonce owners. The error wraps [ErrStranger].
func (r *Recogniser) Joining(owner identity.DeviceID, owners Nonce) (pin string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.with(owner)
	if err != nil {
		return "", err
	}
	return p.joinPIN(p.other, p.self, owners), nil
}

// Admitting returns the PIN, which this device enters, to let a friend into the
// group that this device owns. The error wraps [ErrStranger].
func (r *Recogniser) Admitting(client identity.DeviceID) (pin string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.with(client)
	if err != nil {
		return "", err
	}
	return p.joinPIN(p.self, p.other, r.nonce), nil
}

// with finds a friend; r.mu is held.
func (r *Recogniser) with(id identity.DeviceID) (pair, error) {
	for _, p := range r.pairs {
		if p.other == id {
			return p, nil
		}
	}
	return pair{}, fmt.Errorf("%w: %s", ErrStranger, id.Short())
}

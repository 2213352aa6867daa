package wpa

import (
	"context"
	"time"

	"nigh/wpa/dbusapi"
)

const (
	defaultFind   = 30 * time.Second
	maxFind       = 10 * time.Minute // a search is limited in time and on demand (CVE-2021-0326)
	defaultListen = 2 * time.Minute
	maxListen     = time.Hour // a device that listens is found by everybody

	socialTime = 12 * time.Second // then all other channels too: a group may run on any
	findPause  = time.Second      // before searching again after somebody stopped our search
)

// discStage is the state of the discovery machine.
type discStage int

const (
	discIdle discStage = iota
	discSocial
	discProgressive
	discListening
	discPaused
)

func (s discStage) String() string {
	return [...]string{"Idle", "Social", "Progressive", "Listening", "Paused"}[s]
}

// discovery is what was asked for, which survives a restart of the supplicant, and what is going on.
type discovery struct {
	stage       discStage
	findUntil   time.Time // search wanted until; zero = not
	listenUntil time.Time // visibility wanted until; zero = not
	timer       *timer    // end of this stage
}

// halt forgets what is going on, not what is wanted.
func (d *discovery) halt() {
	d.timer.stop()
	d.timer = nil
	d.stage = discIdle
}

func (m *machine) find(d time.Duration, reply func(error)) {
	if err := m.usable(); err != nil {
		reply(err)
		return
	}
	m.disc.findUntil = time.Now().Add(min(d, maxFind))
	m.search(reply)
}

func (m *machine) listen(d time.Duration, reply func(error)) {
	if err := m.usable(); err != nil {
		reply(err)
		return
	}
	m.disc.listenUntil = time.Now().Add(min(d, maxListen))
	m.search(reply)
}

func (m *machine) stopFind(reply func(error)) {
	m.disc.findUntil, m.disc.listenUntil = time.Time{}, time.Time{}
	busy := m.form != nil // StopFind would stop the search of a join
	was := m.disc.stage
	m.disc.halt()
	m.dirty = true
	if m.state != Ready || busy || was == discIdle || was == discPaused {
		reply(nil)
		return
	}
	owner := m.owner
	m.order(func(ctx context.Context) error { return m.api.StopFind(ctx, owner) }, func(err error) { reply(callErr(err)) })
}

// usable returns why commands cannot be carried out.
func (m *machine) usable() error {
	switch {
	case m.stopping:
		return ErrClosed
	case m.state == Ready:
		return nil
	case m.err != nil:
		return m.err
	}
	return ErrNoSupplicant
}

// resume goes on with the discovery that is wanted, unless a formation or a group needs the radio.
func (m *machine) resume() {
	if m.state != Ready || m.stopping || m.form != nil || len(m.groups) > 0 {
		return
	}
	if m.disc.stage == discIdle || m.disc.stage == discPaused {
		m.search(nil)
	}
}

// search begins the stage that is due. A Listen and a Find are never given together: 2.11 crashes on some mixtures, and a
// search listens between its rounds anyway.
func (m *machine) search(reply func(error)) {
	answer := func(err error) {
		if reply != nil {
			reply(callErr(err))
		}
	}
	was := m.disc.stage
	m.disc.halt()
	m.dirty = true
	now, owner := time.Now(), m.owner
	finding, listening := m.disc.findUntil.After(now), m.disc.listenUntil.After(now)
	switch {
	case m.form != nil && (finding || listening):
		m.disc.stage = discPaused
		answer(nil)
		return
	case finding && was == discSocial && reply == nil:
		m.disc.stage = discProgressive
	case finding:
		m.disc.stage = discSocial
	case listening:
		m.disc.stage = discListening
	default:
		answer(nil)
		return
	}
	stage := m.disc.stage
	whole := m.disc.findUntil.Sub(now) // the supplicant ends it by itself, should we not
	length := whole
	switch stage {
	case discSocial:
		length = min(length, socialTime)
	case discListening:
		length = m.disc.listenUntil.Sub(now)
	}
	m.disc.timer = m.after(length, func() { m.search(nil) })
	m.searched = stage != discListening
	m.order(func(ctx context.Context) error {
		switch stage {
		case discSocial:
			return m.api.Find(ctx, owner, "social", seconds(whole))
		case discProgressive:
			return m.api.Find(ctx, owner, "progressive", seconds(whole))
		}
		return m.api.Listen(ctx, owner, seconds(length))
	}, func(err error) {
		if err != nil {
			m.log.Debug("Starting discovery failed", "err", err)
			if m.disc.stage == stage {
				m.searchAgain(stage)
			}
		}
		answer(err)
	})
}

// searchAgain begins a stage again after a pause.
func (m *machine) searchAgain(stage discStage) {
	m.disc.timer.stop()
	m.disc.timer = m.after(findPause, func() {
		if m.disc.stage == stage && m.form == nil {
			m.disc.stage = discIdle
			m.search(nil)
		}
	})
}

// goOn begins a search or a Listen again that the supplicant gave up, without telling, for something else.
func (m *machine) goOn() {
	switch m.disc.stage {
	case discSocial, discProgressive, discListening:
		m.searchAgain(m.disc.stage)
	}
}

// findStopped goes on searching when somebody else stopped our search. Our own ends leave the stage first.
func (m *machine) findStopped() {
	if m.form == nil && (m.disc.stage == discSocial || m.disc.stage == discProgressive) {
		m.searchAgain(m.disc.stage)
	}
}

// pause lets a formation have the radio. Whatever it does next stops a search by itself.
func (m *machine) pause() {
	if m.disc.stage != discIdle {
		m.disc.halt()
		m.disc.stage = discPaused
		m.dirty = true
	}
}

// seconds rounds up, and is at least one: the supplicant takes zero for "without end".
func seconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }

// seek looks for one peer.
func seek(ctx context.Context, api supplicant, owner dbusapi.Path) error {
	return api.Find(ctx, owner, "social", seconds(seekLimit))
}

package pairing

import (
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
)

// Every bound of the package.
const (
	maxBody     = 4 << 10 // bytes of a message
	maxName     = 64      // characters of the name that a device says
	maxTries    = 5       // to begin, when the connection breaks at once
	maxRecent   = 32      // pairings that are over and can still be asked about
	maxCulprits = 256     // devices that broke the protocol, remembered

	questionsAtOnce  = 3                // of strangers, that need not wait
	questionPause    = 20 * time.Second // between questions of strangers, on average
	questionsPerHour = 30

	// The setup code: how many wrong tries in a row lock it, and for how long.
	wrongCodes = 3
	lockMin    = time.Minute
	lockMax    = time.Hour
	// unlocked is for how long after the owner made a code wrong ones do not lock it: who
	// guesses without end would have locked it before the owner has typed it.
	unlocked = 10 * time.Minute
)

// limits are the times of the protocol, for tests to shorten.
type limits struct {
	question time.Duration // for both users to answer, from when the code is shown
	reveal   time.Duration // for the asker to reveal its nonce
	hold     time.Duration // how long an answer to confirm waits for news
	request  time.Duration // for the other side to answer a message, beside hold
	crossed  time.Duration // for the other side's pairing to arrive when ours has to give way
	retry    time.Duration // before beginning anew
	code     time.Duration // for the other side to look at a setup code
	culprit  time.Duration // no question of a device that broke the protocol
	refused  time.Duration // no question of a device that got a no, or no answer
	dropped  time.Duration // no question of any stranger after one that was not gone on with
}

var defaultLimits = limits{
	question: 60 * time.Second,
	reveal:   5 * time.Second,
	hold:     250 * time.Millisecond,
	request:  5 * time.Second,
	crossed:  10 * time.Second,
	retry:    200 * time.Millisecond,
	code:     20 * time.Second,
	culprit:  10 * time.Minute,
	refused:  20 * time.Second,
	dropped:  60 * time.Second, // as long as a code is shown: see doc.go
}

// gate bounds the questions that strangers may ask; the engine's mutex guards it.
type gate struct {
	pause, hour *rate.Limiter
	until       map[identity.DeviceID]time.Time // no question before
	quiet       time.Time                       // no question of anybody before
}

func newGate() gate {
	return gate{
		pause: rate.NewLimiter(rate.Every(questionPause), questionsAtOnce),
		hour:  rate.NewLimiter(rate.Every(time.Hour/questionsPerHour), questionsPerHour),
		until: make(map[identity.DeviceID]time.Time),
	}
}

// allow takes the right to one question of id.
func (g *gate) allow(id identity.DeviceID) bool {
	now := time.Now()
	return !now.Before(g.quiet) && !now.Before(g.until[id]) && g.hour.Tokens() >= 1 && g.pause.Allow() && g.hour.Allow()
}

// shut refuses questions of id for d. A full memory forgets who may ask soonest.
func (g *gate) shut(id identity.DeviceID, d time.Duration) {
	until := time.Now().Add(d)
	if until.Before(g.until[id]) {
		return
	}
	if _, known := g.until[id]; !known && len(g.until) >= maxCulprits {
		first := id
		for other, t := range g.until {
			if first == id || t.Before(g.until[first]) {
				first = other
			}
		}
		delete(g.until, first)
	}
	g.until[id] = until
}

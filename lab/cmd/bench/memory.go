package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"nigh/lab"
	"nigh/lab/node"
)

const (
	mib         = 1 << 20
	movingMost  = 48 * mib
	idleMost    = 20 * mib
	idleShare   = 0.001 // of one processor
	hugeFile    = 10 << 30
	manyFiles   = 100_000
	manyFolders = 1000
)

// memory moves what is large and what is many, once each, and takes the peak of both sides.
func memory(s *stage) []row {
	b := newBed(s)
	ada, bob := s.start(b.sender, "ada", "--accept", "trusted"), s.start(b.receiver, "bob", "--accept", "trusted", "--inbox", s.roomy(hugeFile))
	s.befriend(ada, bob)
	inbox := bob.Args[len(bob.Args)-1]
	measure := func(what, source string) row {
		m, err := using(ada.PID(), bob.PID(), func() error {
			_, err := sendAndWait(s.ctx, ada, source, "bob")
			return err
		})
		s.must(err)
		progress("%s: %.1f s", what, m.wall.Seconds())
		s.must(os.RemoveAll(filepath.Join(inbox, filepath.Base(source))))
		return judge("agent's memory, "+what, fmt.Sprintf("≤ %d MiB", movingMost/mib),
			fmt.Sprintf("sender %d, receiver %d MiB", m.senderRSS/mib, m.receiverRSS/mib), max(m.senderRSS, m.receiverRSS) <= movingMost)
	}
	rows := []row{measure("a file of 10 GiB", s.sparse(hugeFile))}
	tree := filepath.Join(s.TempDir(), "many")
	s.must(writeTree(tree, zeros{}, slices.Repeat([]int64{100}, manyFiles), manyFolders))
	return append(rows, measure("100 000 files", tree))
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// roomy makes a folder that has room for so many bytes: in memory if that leaves some, else on the disk.
func (s *stage) roomy(size int64) string {
	free, err := kilobytes("/proc/meminfo", "MemAvailable:")
	s.must(err)
	if free > size+4<<30 {
		return s.TempDir()
	}
	dir, err := os.MkdirTemp("/var/tmp", "nigh-bench-")
	s.must(err)
	s.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.Error(err)
		}
	})
	return dir
}

// idle measures an agent on whose link another one that it trusts is near, when nothing is asked of it and it has settled.
func idle(s *stage) []row {
	const settling, measured = 20 * time.Second, 30 * time.Second // the first questions on a link are 1, 3, 9 and 27 s apart
	n := lab.NewNet(s)
	_, hosts := s.segment(n, "ada", "bob")
	ada, bob := s.start(hosts[0], "ada"), s.start(hosts[1], "bob")
	s.befriend(ada, bob)
	s.pause(settling)
	before := s.usage(ada)
	s.pause(measured)
	after := s.usage(ada)
	spent := after.Sub(before)
	share := spent.CPU.Seconds() / measured.Seconds()
	return []row{
		judge("agent's memory, idle", fmt.Sprintf("≤ %d MiB", idleMost/mib), fmt.Sprintf("%.1f MiB", float64(after.RSS)/mib), after.RSS <= idleMost),
		judge("idle processor time", fmt.Sprintf("≤ %.1f %% of one processor", 100*idleShare),
			fmt.Sprintf("%.3f %%, woken %.1f times a second", 100*share, float64(spent.Wakeups)/measured.Seconds()), share <= idleShare),
	}
}

// usage is that of an agent, with its broker.
func (s *stage) usage(a *node.Agent) node.Usage {
	u, err := a.Usage()
	s.must(err)
	pids, err := family(a.PID())
	s.must(err)
	for _, pid := range pids[1:] {
		own, err := private(pid)
		s.must(err)
		cpu, _, err := running(pid)
		s.must(err)
		u.RSS += own
		u.CPU += cpu
	}
	return u
}

// pause waits without doing anything.
func (s *stage) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
		s.must(s.ctx.Err())
	}
}

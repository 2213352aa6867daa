package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const wormholePort = 7004

// startWormhole runs the mailbox server of magic-wormhole on the receiving side, in place of the public one, and no transit
// relay: both sides reach each other. A move is both commands, with a code that both know.
func startWormhole(b *bed) mover {
	dir := b.TempDir()
	server := b.command(context.WithoutCancel(b.ctx), b.receiver, "twist3", "wormhole-mailbox",
		"--port=tcp:"+strconv.Itoa(wormholePort)+":interface="+receiverAddress, "--channel-db="+dir+"/relay.sqlite")
	server.Dir = dir
	b.must(server.Start())
	b.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM) // its status is that of the signal
		_ = server.Wait()
	})
	if err := b.listening(b.ctx, server.Process.Pid, wormholePort); err != nil {
		b.must(said(server, err))
	}
	moves := 0
	return func(ctx context.Context, b *bed, source, target string) (m measurement, err error) {
		moves++
		code := strconv.Itoa(moves) + "-yardstick-chart"
		args := []string{"--relay-url=ws://" + receiverAddress + ":" + strconv.Itoa(wormholePort) + "/v1", "--transit-helper="}
		receiver := b.command(ctx, b.receiver, "wormhole", append(args, "receive", "--hide-progress", "--accept-file", code)...)
		receiver.Dir = target
		sender := b.command(ctx, b.sender, "wormhole", append(args, "send", "--hide-progress", "--code", code, source)...)
		for _, cmd := range []*exec.Cmd{receiver, sender} {
			cmd.Env = append(environment(), "HOME="+dir, "LC_ALL=C.UTF-8")
		}
		start := time.Now()
		if err := receiver.Start(); err != nil {
			return m, err
		}
		err = said(sender, sender.Run())
		if err != nil {
			_ = receiver.Process.Kill()
		}
		if rerr := said(receiver, receiver.Wait()); err == nil {
			err = rerr
		}
		if err != nil {
			return m, fmt.Errorf("magic-wormhole: %w", err)
		}
		m.wall = time.Since(start)
		m.senderCPU, m.senderRSS = ended(sender.ProcessState)
		m.receiverCPU, m.receiverRSS = ended(receiver.ProcessState)
		return m, nil
	}
}

package hostnet

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long addresses and routes have to stay as they are before anybody is told; a change of many is told within settleMost.
	settle     = 200 * time.Millisecond
	settleMost = time.Second
	watchRetry = time.Second
	// watchBuffer takes the news of some thousand routes that come at once. More than it takes is not lost: the overflow itself is news.
	watchBuffer = 1 << 20
)

// Watch calls changed, on a goroutine of its own, after addresses of this host or routes of its main table have changed, until ctx ends. What it misses because
// too much happens at once is told as a change too. The error says that nothing can be watched. Call it in the network namespace that is meant.
func Watch(ctx context.Context, changed func()) error {
	news := make(chan struct{}, 1)
	if err := subscribe(ctx, news); err != nil {
		return err
	}
	go debounce(ctx, news, changed)
	return nil
}

// subscribe feeds news until ctx ends, and again when the sockets fail.
func subscribe(ctx context.Context, news chan<- struct{}) error {
	tell := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	round, cancel := context.WithCancel(ctx)
	again := func(error) { // ENOBUFS: what was lost may have been for us
		tell()
		cancel()
	}
	addrs, routes := make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	err := netlink.AddrSubscribeWithOptions(addrs, round.Done(), netlink.AddrSubscribeOptions{ErrorCallback: again, ReceiveBufferSize: watchBuffer, ReceiveBufferForceSize: true})
	if err == nil {
		err = netlink.RouteSubscribeWithOptions(routes, round.Done(), netlink.RouteSubscribeOptions{ErrorCallback: again, ReceiveBufferSize: watchBuffer, ReceiveBufferForceSize: true})
	}
	if err != nil {
		cancel()
		return fmt.Errorf("watching addresses and routes: %w", err)
	}
	go func() {
		defer cancel()
		for addrs != nil || routes != nil {
			select {
			case _, ok := <-addrs:
				if !ok {
					addrs = nil
					cancel()
					continue
				}
				tell()
			case u, ok := <-routes:
				if !ok {
					routes = nil
					cancel()
					continue
				}
				if u.Table == unix.RT_TABLE_MAIN || u.Table == unix.RT_TABLE_DEFAULT || u.Table == unix.RT_TABLE_LOCAL {
					tell() // ours change with every connection, and lead to no peer
				}
			}
		}
		for ctx.Err() == nil && subscribe(ctx, news) != nil {
			select {
			case <-time.After(watchRetry):
			case <-ctx.Done():
			}
		}
	}()
	return nil
}

// debounce tells one change for many that come together.
func debounce(ctx context.Context, news <-chan struct{}, changed func()) {
	for {
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
		for begin, quiet := time.Now(), false; !quiet && time.Since(begin) < settleMost; {
			select {
			case <-news:
			case <-time.After(settle):
				quiet = true
			case <-ctx.Done():
				return
			}
		}
		changed()
	}
}

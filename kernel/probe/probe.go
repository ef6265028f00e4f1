// Package probe finds out what this kernel can do for IPsec, by trying it: versions and build options say what should work, an attempt says what does.
//
// The attempts run in a network namespace of their own that goes with the thread that made it, so that they meet no SA, policy, interface or table that is in use.
// Where no namespace can be made (CAP_SYS_ADMIN is missing) those that could be seen from outside are left out, and SAs are tried with addresses for documentation
// (RFC 5737, RFC 3849), random SPIs and a reqid of their own, and removed.
package probe

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Feature is one thing that a kernel may be able to do.
type Feature uint8

// The features, in the order in which they are tried and printed.
const (
	XFRM       Feature = iota // NETLINK_XFRM answers us
	ESP4                      // ESP between IPv4 addresses
	ESP6                      // and between IPv6 addresses
	UDPEncap                  // ESP in UDP (RFC 3948): SA and socket
	TCPEncap                  // ESP in TCP (espintcp, RFC 9329): SA and socket, IPv4
	TCPEncap6                 // the SA for IPv6
	ESN                       // extended sequence numbers
	Direction                 // SAs know their direction (Linux 6.10)
	Migrate                   // SAs can get other addresses (XFRM_MSG_MIGRATE)
	Interface                 // xfrm interfaces
	AESGCM                    // algorithms of pkg/suite for ESP
	AESCCM                    //
	ChaCha20                  //
	AESCBC                    //
	SHA2_256                  //
	SHA2_384                  //
	SHA2_512                  //
	SHA1                      //
	TUN                       // /dev/net/tun, for the userspace datapath
	NFT                       // nft tables of family inet
	NFTGuard                  // their expressions fib and socket, against clear packets
	NFTSecpath                // and meta secpath, which knows what the kernel's ESP has decrypted
	NumFeatures
)

// String is the name of a feature for an operator.
func (f Feature) String() string {
	if f < NumFeatures {
		return features[f].name
	}
	return fmt.Sprintf("feature(%d)", uint8(f))
}

// Outcome of an attempt.
type Outcome uint8

// Outcomes.
const (
	Untried Outcome = iota // Means says why
	No
	Yes
)

// String is "yes", "no" or "not tried".
func (o Outcome) String() string { return [...]string{"not tried", "no", "yes"}[min(o, 2)] }

// Finding is what became of one attempt.
type Finding struct {
	Feature Feature
	Outcome Outcome
	Said    string // what the kernel said: the error with its text; empty for Yes
	Means   string // what that means, a sentence without a full stop
	Hint    string // what helps; empty if nothing does
}

// Why is the reason of a "no" in one line, without the hint.
func (f Finding) Why() string {
	switch {
	case f.Outcome == Yes:
		return ""
	case f.Said == "":
		return f.Means
	}
	return fmt.Sprintf("%s (%s)", f.Means, f.Said)
}

// String is the finding in one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s", f.Feature, f.Outcome)
	if w := f.Why(); w != "" {
		s += ", " + w
	}
	if f.Hint != "" {
		s += "; " + f.Hint
	}
	return s
}

// Report is what a kernel can do.
type Report struct {
	Release  string // uname -r
	Findings [NumFeatures]Finding
	IPv6     bool     // this host has IPv6
	StrictRP []string // as StrictReversePath returns it
	InPlace  string   // why the attempts were made in the namespace of the daemon itself; empty: they were not
	Took     time.Duration
}

// Can reports whether a feature is there.
func (r *Report) Can(f Feature) bool { return r.Findings[f].Outcome == Yes }

// Lacking is those of some features that are not there.
func (r *Report) Lacking(fs ...Feature) (out []Finding) {
	for _, f := range fs {
		if !r.Can(f) {
			out = append(out, r.Findings[f])
		}
	}
	return out
}

// Summary is the report in one line.
func (r *Report) Summary() string {
	var yes, no []string
	for f := range NumFeatures {
		switch {
		case f.algorithm() && r.Findings[f].Outcome == Untried:
		case r.Can(f):
			yes = append(yes, f.String())
		default:
			no = append(no, f.String())
		}
	}
	s := fmt.Sprintf("kernel %s can: %s", r.Release, list(yes))
	if len(no) > 0 {
		s += "; cannot: " + list(no)
	}
	return s
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing of what IPsec needs"
	}
	return strings.Join(names, ", ")
}

// Surprises are the findings that the operator of a common kernel does not expect, and each is worth a line of a log.
func (r *Report) Surprises() (out []string) {
	for f := range NumFeatures {
		found := r.Findings[f]
		if found.Outcome == No && !features[f].rare {
			out = append(out, found.String())
		}
	}
	if r.InPlace != "" {
		out = append(out, r.InPlace)
	}
	return out
}

// algorithm reports whether a feature is an algorithm, which only a kernel with ESP can be asked for.
func (f Feature) algorithm() bool { return f >= AESGCM && f <= SHA1 }

// limit is how long all attempts may take together. They take some 50 ms; on a slow machine that has to load modules it is more, and a start waits for it, since a
// choice without knowing would be a worse one; but not for a kernel that hangs.
const limit = 5 * time.Second

// Run tries everything. It takes less than a second, and never longer than limit: what has not answered by then is "not tried". Safe for concurrent use.
func Run() *Report {
	begin := time.Now()
	r := &Report{Release: release(), StrictRP: StrictReversePath(), IPv6: exists("/proc/net/if_inet6")}
	for f := range r.Findings {
		r.Findings[f] = Finding{Feature: Feature(f), Means: fmt.Sprintf("the attempts were cut off after %s", limit)}
	}
	found := make(chan Finding, NumFeatures+1)
	inPlace := make(chan string, 1)
	go func() {
		defer close(found)
		attempt(found, inPlace)
	}()
	cutOff := time.NewTimer(limit)
	defer cutOff.Stop()
	for done := false; !done; {
		select {
		case f, ok := <-found:
			if ok {
				r.Findings[f.Feature] = f
			}
			done = !ok
		case <-cutOff.C:
			done = true
		}
	}
	select {
	case r.InPlace = <-inPlace:
	default:
	}
	r.Took = time.Since(begin)
	return r
}

func release() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

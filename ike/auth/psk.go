package auth

import (
	"crypto/subtle"
	"fmt"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
)

// keyPad is the 17 octets of RFC 7296 2.15.
const keyPad = "Key Pad for IKEv2"

// sign makes AUTH data.
func (s *Store) sign(job *machine.AuthJob) ([]byte, error) {
	data, _, err := s.sharedKeyMIC(job)
	return data, err
}

// verify checks AUTH data in constant time.
func (s *Store) verify(job *machine.AuthJob) error {
	want, secret, err := s.sharedKeyMIC(job)
	if err != nil {
		return err
	}
	if len(job.Data) != len(want) {
		return fmt.Errorf("%s%w: the AUTH data of %v has %d octets, expected %d", prefix(job), ErrNotAuthentic, job.Remote, len(job.Data), len(want))
	}
	if subtle.ConstantTimeCompare(job.Data, want) != 1 {
		return fmt.Errorf("%s%w: the pre-shared keys of %v (us, %s) and %v (the peer) differ; write the same secret on both sides",
			prefix(job), ErrNotAuthentic, us(job), where(secret), job.Remote)
	}
	return nil
}

// sharedKeyMIC computes AUTH = prf(prf(secret, "Key Pad for IKEv2"), octets) (RFC 7296 2.15) and says with which record.
func (s *Store) sharedKeyMIC(job *machine.AuthJob) ([]byte, *Secret, error) {
	if job.Method != iana.AuthSharedKey {
		return nil, nil, fmt.Errorf("%s%w: %v for us (%v) and the peer (%v); only a pre-shared key (authby=secret) is", prefix(job), ErrMethod, job.Method, us(job), peer(job))
	}
	secret, ok := s.find(job.Local, job.Remote)
	if !ok {
		return nil, nil, s.missing(job)
	}
	if len(secret.Key) == 0 {
		return nil, nil, fmt.Errorf("%s%w for %v (us) and %v (the peer): the record %s is empty", prefix(job), ErrNoSecret, us(job), peer(job), where(secret))
	}
	if suite.PRFLen(job.PRF) == 0 {
		return nil, nil, fmt.Errorf("%s%v is not implemented, so AUTH data cannot be computed", prefix(job), job.PRF)
	}
	padded := suite.Prf(job.PRF, secret.Key, []byte(keyPad))
	return suite.Prf(job.PRF, padded, job.Octets), secret, nil
}

// missing is the error when no record fits: what was searched for, what came near, and the line to write.
func (s *Store) missing(job *machine.AuthJob) error {
	reason := fmt.Sprintf("none of the %d PSK records of ipsec.secrets fits", len(s.secrets))
	if len(s.secrets) == 0 {
		reason = "ipsec.secrets has no PSK record"
	}
	if n, ok := s.near(job); ok {
		reason += fmt.Sprintf(" (the record %s names %v but not %v)", where(&s.secrets[n.record]), n.named, n.lacking)
	}
	return fmt.Errorf("%s%w for %v (us) and %v (the peer): %s; add the line: %v %v : PSK \"...\"",
		prefix(job), ErrNoSecret, us(job), peer(job), reason, us(job), peer(job))
}

// nearMiss is a record that names one of the two identities only, so that it does not count.
type nearMiss struct {
	record         int
	named, lacking string
}

// near finds the first record that names one of the identities: with the operator's intention in sight the message can be exact.
func (s *Store) near(job *machine.AuthJob) (nearMiss, bool) {
	if list := s.naming[job.Remote.Canonical()]; len(list) > 0 && !job.Remote.IsZero() {
		return nearMiss{list[0], peer(job), us(job)}, true
	}
	if list := s.naming[job.Local.Canonical()]; len(list) > 0 && !job.Local.IsZero() {
		return nearMiss{list[0], us(job), peer(job)}, true
	}
	return nearMiss{}, false
}

// prefix names the connection.
func prefix(job *machine.AuthJob) string {
	if job.Conn == nil || job.Conn.Connection == nil {
		return ""
	}
	return fmt.Sprintf("conn %s: ", job.Conn.Name)
}

func us(job *machine.AuthJob) string   { return orAny(job.Local) }
func peer(job *machine.AuthJob) string { return orAny(job.Remote) }

// orAny prints an identity that is not known as the word that stands for it in ipsec.secrets.
func orAny(id ident.ID) string {
	if id.IsZero() {
		return "%any"
	}
	return id.String()
}

func where(s *Secret) string {
	if s.Position == "" {
		return "without a position"
	}
	return "at " + s.Position
}

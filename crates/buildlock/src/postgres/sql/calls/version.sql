select version
from buildlock.store

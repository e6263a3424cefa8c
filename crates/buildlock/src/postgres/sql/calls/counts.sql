select held, waiting from buildlock.counts()
